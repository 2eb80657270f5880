"""The demo's Mask2Former: 128 px, a tiny network that two cores train in minutes.

It starts from weights that ``tools/pretrain_demo_model.py`` makes on scenes of other shapes.
"""

_base_ = ["./_base_/mask2former.py"]

start = "weights/mask2former_demo.safetensors"
width = 64
norm = dict(type="GN", num_groups=8)
attention = dict(embed_dims=width, num_heads=4)
deformable = dict(embed_dims=width, num_heads=4, num_points=2)
ffn = dict(embed_dims=width, feedforward_channels=256)

model = dict(
    backbone=dict(
        type="ResNet",
        depth=18,
        base_channels=24,
        stem_channels=24,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type="GN", num_groups=8, requires_grad=True),
        norm_eval=False,
        style="pytorch",
        init_cfg=None,
    ),
    panoptic_head=dict(
        in_channels=[24, 48, 96, 192],
        feat_channels=width,
        out_channels=width,
        num_queries=20,
        pixel_decoder=dict(
            norm_cfg=norm,
            encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
            positional_encoding=dict(num_feats=width // 2),
        ),
        positional_encoding=dict(num_feats=width // 2),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
        ),
    ),
    train_cfg=dict(num_points=1024),
    test_cfg=dict(max_per_image=20),
)

train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=(128, 128),
        ratio_range=(0.8, 1.25),
        resize_type="Resize",
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(128, 128),
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
test_scale = (128, 128)

optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=1.0)}),
    clip_grad=dict(max_norm=1.0),
)
schedule = dict(kind="poly", power=0.9, warmup=100)
