"""ResNet-50 with frozen batch normalisation."""

expects_weights = "ImageNet weights of ResNet-50, such as torchvision's"

parts = dict(
    backbone=dict(
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        style="pytorch",
        init_cfg=None,
    ),
    panoptic_head=dict(in_channels=[256, 512, 1024, 2048]),
)
backbone_rates = {}  # a frozen normalisation needs none of its own
