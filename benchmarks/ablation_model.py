"""The ablation's model: ``mask2former_lite0`` at 256 px, about five minutes a row on two cores."""

_base_ = ["../s4m_pipeline/configs/models/mask2former_lite0.py"]

train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=(256, 256),
        ratio_range=(0.7, 1.4),
        resize_type="Resize",
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(256, 256),
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
test_scale = (256, 256)
