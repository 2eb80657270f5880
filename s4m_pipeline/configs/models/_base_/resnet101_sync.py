"""ResNet-101 with batch normalisation that is trained, over all processes of a training."""

_base_ = ["./resnet50_sync.py"]

expects_weights = "ImageNet weights of ResNet-101, such as torchvision's"

parts = dict(backbone=dict(depth=101))
backbone_rates = {
    f"backbone.layer3.{block}.bn": dict(lr_mult=0.1, decay_mult=0.0) for block in range(6, 23)
}
