"""Mask2Former with ResNet-50: the paper's figures for COCO."""

_base_ = ["./_base_/mask2former.py"]

expects_weights = "ImageNet weights of ResNet-50, such as torchvision's"

model = dict(
    backbone=dict(
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        style="pytorch",
        init_cfg=None,
    ),
)

train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=(1024, 1024),
        ratio_range=(0.1, 2.0),
        resize_type="Resize",
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(1024, 1024),
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
test_scale = (1333, 800)
schedule = dict(kind="step", milestones=(0.889, 0.963), gamma=0.1, warmup=0)
