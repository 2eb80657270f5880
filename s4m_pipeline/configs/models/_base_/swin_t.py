"""Swin-T: windows of 7, trained on ImageNet at 224 px."""

expects_weights = "ImageNet weights of Swin-T: swin_tiny_patch4_window7_224.pth of its authors"

parts = dict(
    backbone=dict(
        type="SwinTransformer",
        pretrain_img_size=224,
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.3,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        init_cfg=None,
    ),
    panoptic_head=dict(in_channels=[96, 192, 384, 768]),
)

norm_rate = dict(lr_mult=0.1, decay_mult=0.0)
backbone_rates = {
    "backbone.patch_embed.norm": norm_rate,
    "backbone.norm": norm_rate,
    "relative_position_bias_table": norm_rate,
    **{
        f"backbone.stages.{stage}.blocks.{block}.norm": norm_rate
        for stage, depth in enumerate(parts["backbone"]["depths"])
        for block in range(depth)
    },
    **{f"backbone.stages.{stage}.downsample.norm": norm_rate for stage in range(3)},
}
