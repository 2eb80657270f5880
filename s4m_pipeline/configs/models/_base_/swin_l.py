"""Swin-L: windows of 12, trained on ImageNet-22k at 384 px."""

_base_ = ["./swin_b.py"]

expects_weights = (
    "ImageNet weights of Swin-L: swin_large_patch4_window12_384_22k.pth of its authors"
)

parts = dict(
    backbone=dict(embed_dims=192, num_heads=[6, 12, 24, 48]),
    panoptic_head=dict(in_channels=[192, 384, 768, 1536]),
)
