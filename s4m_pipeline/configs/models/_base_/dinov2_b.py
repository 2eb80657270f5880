"""DINOv2's ViT-B at stride 16, with a feature pyramid of strides 4 to 32."""

_base_ = ["./dinov2_s.py"]

expects_weights = "weights of DINOv2's ViT-B: dinov2_vitb14_pretrain.pth of its authors, or timm's"

parts = dict(
    backbone=dict(model_name="vit_base_patch14_dinov2"),
    neck=dict(in_channels=768),
)
