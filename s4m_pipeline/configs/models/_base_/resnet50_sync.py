"""ResNet-50 with batch normalisation that is trained; in one process SyncBN is plain BN."""

_base_ = ["./resnet50.py"]

parts = dict(backbone=dict(norm_cfg=dict(type="SyncBN", requires_grad=True), norm_eval=False))

depths = (3, 4, 6, 3)
norm_rate = dict(lr_mult=0.1, decay_mult=0.0)
backbone_rates = {
    "backbone.bn1": norm_rate,
    **{
        f"backbone.layer{stage}.{block}.bn": norm_rate
        for stage, depth in enumerate(depths, start=1)
        for block in range(depth)
    },
    **{f"backbone.layer{stage}.0.downsample.1": norm_rate for stage in range(1, 5)},
}
