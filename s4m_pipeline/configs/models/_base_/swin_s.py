"""Swin-S: Swin-T with 18 blocks in its third stage."""

_base_ = ["./swin_t.py"]

expects_weights = "ImageNet weights of Swin-S: swin_small_patch4_window7_224.pth of its authors"

parts = dict(backbone=dict(depths=[2, 2, 18, 2]))
backbone_rates = {
    f"backbone.stages.2.blocks.{block}.norm": dict(lr_mult=0.1, decay_mult=0.0)
    for block in range(6, 18)
}
