"""ResNet-101 with frozen batch normalisation."""

_base_ = ["./resnet50.py"]

expects_weights = "ImageNet weights of ResNet-101, such as torchvision's"

parts = dict(backbone=dict(depth=101))
