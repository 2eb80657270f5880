"""RTMDet-Ins with EfficientNet-Lite0 at 320 px: a network without queries and without proposals.

Its masks come from small convolutions that the network makes anew for each instance.
"""

_base_ = ["./_base_/lite0.py", "./_base_/strong_augmentation.py"]

width = 96
norm = dict(type="BN", requires_grad=True)
activation = dict(type="SiLU", inplace=True)

model = dict(
    type="RTMDet",
    data_preprocessor=_base_.parts.data_preprocessor,
    backbone={**_base_.parts.backbone, "out_indices": (2, 3, 4)},
    neck=dict(
        type="CSPNeXtPAFPN",
        in_channels=[40, 112, 320],
        out_channels=width,
        num_csp_blocks=1,
        expand_ratio=0.5,
        norm_cfg=norm,
        act_cfg=activation,
    ),
    bbox_head=dict(
        type="RTMDetInsSepBNHead",
        num_classes=80,
        in_channels=width,
        feat_channels=width,
        stacked_convs=2,
        share_conv=True,
        pred_kernel_size=1,
        norm_cfg=norm,
        act_cfg=activation,
        anchor_generator=dict(type="MlvlPointGenerator", offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type="DistancePointBBoxCoder"),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_mask=dict(type="DiceLoss", loss_weight=2.0, eps=5e-6, reduction="mean"),
    ),
    train_cfg=dict(
        assigner=dict(type="DynamicSoftLabelAssigner", topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type="nms", iou_threshold=0.6),
        max_per_img=100,
        mask_thr_binary=0.5,
    ),
)
feature_module = "neck"

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={"backbone": dict(lr_mult=0.3)},
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        bypass_duplicate=True,  # the levels of the head share their convolutions
    ),
    clip_grad=dict(max_norm=10.0, norm_type=2),
)
schedule = dict(kind="poly", power=0.9, warmup=200)
