"""A Mask2Former that two cores can train: EfficientNet-Lite0, 320 px, a small head."""

_base_ = ["./_base_/mask2former.py", "./_base_/lite0.py"]

width = 96
attention = dict(embed_dims=width, num_heads=6)
deformable = dict(embed_dims=width, num_heads=6, num_points=2)
ffn = dict(embed_dims=width, feedforward_channels=384)

model = dict(
    **_base_.parts,
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

optim_wrapper = dict(
    optimizer=dict(lr=3e-4),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.3)}),
    clip_grad=dict(max_norm=1.0),
)
schedule = dict(kind="poly", power=0.9, warmup=200)
