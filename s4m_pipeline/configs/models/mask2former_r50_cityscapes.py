"""Mask2Former with ResNet-50 for Cityscapes, the paper's model."""

_base_ = ["./_base_/mask2former_cityscapes.py", "./_base_/resnet50_sync.py"]

model = _base_.parts
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.backbone_rates))
