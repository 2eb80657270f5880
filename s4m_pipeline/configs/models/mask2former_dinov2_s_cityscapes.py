"""Mask2Former with DINOv2's ViT-S for Cityscapes."""

_base_ = ["./_base_/mask2former_cityscapes.py", "./_base_/dinov2_s.py"]

model = _base_.parts
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.backbone_rates))
