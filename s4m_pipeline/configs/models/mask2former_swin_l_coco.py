"""Mask2Former with Swin-L for COCO."""

_base_ = ["./_base_/mask2former_coco.py", "./_base_/swin_l.py"]

model = _base_.parts
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.backbone_rates))
