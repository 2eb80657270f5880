"""DINOv2's ViT-S at stride 16, with a feature pyramid of strides 4 to 32."""

expects_weights = "weights of DINOv2's ViT-S: dinov2_vits14_pretrain.pth of its authors, or timm's"

parts = dict(
    backbone=dict(type="TimmViT", model_name="vit_small_patch14_dinov2"),
    neck=dict(type="SimpleFeaturePyramid", in_channels=384, out_channels=256),
    panoptic_head=dict(in_channels=[256] * 4),
)

token_rate = dict(lr_mult=0.1, decay_mult=0.0)
backbone_rates = {
    "backbone.network.pos_embed": token_rate,
    "backbone.network.cls_token": token_rate,
    "backbone.network.norm": token_rate,
    **{f"backbone.network.blocks.{block}.norm": token_rate for block in range(12)},
}
