"""Swin-B: windows of 12, trained on ImageNet-22k at 384 px."""

_base_ = ["./swin_s.py"]

expects_weights = "ImageNet weights of Swin-B: swin_base_patch4_window12_384_22k.pth of its authors"

parts = dict(
    backbone=dict(pretrain_img_size=384, embed_dims=128, num_heads=[4, 8, 16, 32], window_size=12),
    panoptic_head=dict(in_channels=[128, 256, 512, 1024]),
)
