"""Mask2Former with ResNet-50 for COCO, the paper's model."""

_base_ = ["./_base_/mask2former_coco.py", "./_base_/resnet50.py"]

model = _base_.parts
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.backbone_rates))
