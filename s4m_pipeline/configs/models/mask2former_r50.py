"""Mask2Former with ResNet-50 for images of any size: COCO's recipe without its fixed canvas."""

_base_ = ["./mask2former_r50_coco.py"]

model = dict(data_preprocessor=dict(batch_augments=None))
