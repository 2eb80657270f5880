"""The list of what a model that a checkpoint describes may be built of.

A list of our own: being in a registry of OpenMMLab is no pass. Some of the classes there evaluate a
string, read a Python config by its path or download a file, and a name that a registry does not
have is imported. So each place of a model has the types that may stand there, and each type the
arguments that it may have. No argument here is evaluated, imported, opened or fetched.

A model config that the run's own file names may hold whatever its user wants; it does not pass
through here.
"""

from __future__ import annotations

TYPES: dict[str, str] = {
    "model": "Mask2Former MaskFormer MaskRCNN CascadeRCNN RTMDet",
    "data_preprocessor": "DetDataPreprocessor",
    "batch_augments": "BatchFixedSizePad",
    "backbone": "ResNet ResNeXt SwinTransformer CSPNeXt TimmBackbone TimmViT",
    "neck": "FPN PAFPN ChannelMapper CSPNeXtPAFPN SimpleFeaturePyramid",
    "panoptic_head": "DistillingMask2FormerHead Mask2FormerHead",
    "panoptic_fusion_head": "ScoringFusionHead MaskFormerFusionHead",
    "pixel_decoder": "MSDeformAttnPixelDecoder",
    "rpn_head": "RPNHead",
    "roi_head": "StandardRoIHead CascadeRoIHead",
    "bbox_roi_extractor": "SingleRoIExtractor",
    "mask_roi_extractor": "SingleRoIExtractor",
    "roi_layer": "RoIAlign",
    "bbox_head": (
        "RTMDetInsSepBNHead RTMDetInsHead Shared2FCBBoxHead Shared4Conv1FCBBoxHead ConvFCBBoxHead"
    ),
    "mask_head": "FCNMaskHead",
    "cls_predictor_cfg": "Linear",
    "reg_predictor_cfg": "Linear",
    "predictor_cfg": "Conv",
    "anchor_generator": "AnchorGenerator MlvlPointGenerator",
    "bbox_coder": "DeltaXYWHBBoxCoder DistancePointBBoxCoder",
    "loss_cls": "CrossEntropyLoss FocalLoss QualityFocalLoss",
    "loss_bbox": "L1Loss SmoothL1Loss GIoULoss",
    "loss_mask": "CrossEntropyLoss DiceLoss FocalLoss",
    "loss_dice": "DiceLoss",
    "loss_centerness": "CrossEntropyLoss",
    "norm_cfg": "BN BN2d GN LN",
    "act_cfg": "ReLU LeakyReLU SiLU GELU",
    "conv_cfg": "Conv2d",
    "upsample_cfg": "nearest bilinear deconv",
    "dropout_layer": "Dropout DropPath",
    "nms": "nms soft_nms",
    "assigner": "HungarianAssigner MaxIoUAssigner DynamicSoftLabelAssigner",
    "match_costs": "ClassificationCost FocalLossCost CrossEntropyLossCost DiceCost",
    "iou_calculator": "BboxOverlaps2D",
    "sampler": "MaskPseudoSampler PseudoSampler RandomSampler",
}
"""Types by the place where they may stand: an argument's name, or ``model`` for the whole."""

PASSED_ON = ("train_cfg", "test_cfg")
"""What a detector writes into its heads' settings when it is built, and so into a checkpoint."""
_PASSED_ON = " ".join(PASSED_ON)
_DETECTOR = f"data_preprocessor backbone neck {_PASSED_ON}"
_TWO_STAGES = f"{_DETECTOR} rpn_head roi_head"
_QUERIES = f"{_DETECTOR} panoptic_head panoptic_fusion_head"
_RESNET = (
    "depth in_channels stem_channels base_channels num_stages strides dilations out_indices style "
    "deep_stem avg_down frozen_stages conv_cfg norm_cfg norm_eval zero_init_residual with_cp"
)
_PYRAMID = (
    "in_channels out_channels num_outs start_level end_level add_extra_convs "
    "relu_before_extra_convs no_norm_on_lateral conv_cfg norm_cfg act_cfg"
)
_QUERY_HEAD = (
    "in_channels strides feat_channels out_channels num_things_classes num_stuff_classes "
    "num_queries num_transformer_feat_level pixel_decoder enforce_decoder_input_project "
    f"transformer_decoder positional_encoding loss_cls loss_mask loss_dice {_PASSED_ON}"
)
_BOX_HEAD = (
    "with_avg_pool with_cls with_reg roi_feat_size in_channels num_classes bbox_coder "
    "predict_box_type reg_class_agnostic reg_decoded_bbox reg_predictor_cfg cls_predictor_cfg "
    "loss_cls loss_bbox num_shared_convs num_shared_fcs num_cls_convs num_cls_fcs num_reg_convs "
    "num_reg_fcs conv_out_channels fc_out_channels conv_cfg norm_cfg"
)
_ROI_HEAD = f"bbox_roi_extractor bbox_head mask_roi_extractor mask_head {_PASSED_ON}"
_RTMDET_HEAD = (
    "num_classes in_channels feat_channels stacked_convs conv_cfg norm_cfg "
    "act_cfg anchor_generator bbox_coder loss_cls loss_bbox loss_centerness loss_mask "
    "num_prototypes dyconv_channels num_dyconvs mask_loss_stride with_objectness pred_kernel_size "
    f"{_PASSED_ON}"
)
_SAMPLER = "num pos_fraction neg_pos_ub add_gt_as_proposals"
_NORM = "requires_grad eps momentum affine track_running_stats num_groups"

ARGUMENTS: dict[str, str] = {
    "Mask2Former": _QUERIES,
    "MaskFormer": _QUERIES,
    "MaskRCNN": _TWO_STAGES,
    "CascadeRCNN": _TWO_STAGES,
    "RTMDet": f"{_DETECTOR} bbox_head use_syncbn",
    "DetDataPreprocessor": (
        "mean std pad_size_divisor pad_value pad_mask mask_pad_value pad_seg seg_pad_value "
        "bgr_to_rgb rgb_to_bgr boxtype2tensor non_blocking batch_augments"
    ),
    "BatchFixedSizePad": "size img_pad_value pad_mask mask_pad_value pad_seg seg_pad_value",
    "ResNet": _RESNET,
    "ResNeXt": f"{_RESNET} groups base_width",
    "SwinTransformer": (
        "pretrain_img_size in_channels embed_dims patch_size window_size mlp_ratio depths "
        "num_heads strides out_indices qkv_bias qk_scale patch_norm drop_rate attn_drop_rate "
        "drop_path_rate use_abs_pos_embed act_cfg norm_cfg with_cp convert_weights frozen_stages"
    ),
    "CSPNeXt": (
        "arch deepen_factor widen_factor out_indices frozen_stages use_depthwise expand_ratio "
        "channel_attention conv_cfg norm_cfg act_cfg norm_eval"
    ),
    "TimmBackbone": "model_name out_indices norm frozen_levels options",
    "TimmViT": "model_name position_grid options",
    "FPN": f"{_PYRAMID} upsample_cfg",
    "PAFPN": _PYRAMID,
    "ChannelMapper": "in_channels out_channels kernel_size conv_cfg norm_cfg act_cfg bias num_outs",
    "CSPNeXtPAFPN": (
        "in_channels out_channels num_csp_blocks use_depthwise expand_ratio upsample_cfg conv_cfg "
        "norm_cfg act_cfg"
    ),
    "SimpleFeaturePyramid": "in_channels out_channels",
    "DistillingMask2FormerHead": _QUERY_HEAD,
    "Mask2FormerHead": _QUERY_HEAD,
    "ScoringFusionHead": "num_things_classes num_stuff_classes loss_panoptic test_cfg",
    "MaskFormerFusionHead": "num_things_classes num_stuff_classes loss_panoptic test_cfg",
    "MSDeformAttnPixelDecoder": (
        "in_channels strides feat_channels out_channels num_outs norm_cfg act_cfg encoder "
        "positional_encoding"
    ),
    "RPNHead": (
        "in_channels feat_channels num_classes num_convs anchor_generator bbox_coder "
        f"reg_decoded_bbox loss_cls loss_bbox {_PASSED_ON}"
    ),
    "StandardRoIHead": _ROI_HEAD,
    "CascadeRoIHead": f"{_ROI_HEAD} num_stages stage_loss_weights",
    "SingleRoIExtractor": "roi_layer out_channels featmap_strides finest_scale",
    "RoIAlign": "output_size sampling_ratio spatial_scale pool_mode aligned use_torchvision",
    "Shared2FCBBoxHead": _BOX_HEAD,
    "Shared4Conv1FCBBoxHead": _BOX_HEAD,
    "ConvFCBBoxHead": _BOX_HEAD,
    "FCNMaskHead": (
        "num_convs roi_feat_size in_channels conv_kernel_size conv_out_channels num_classes "
        "class_agnostic upsample_cfg conv_cfg norm_cfg predictor_cfg loss_mask"
    ),
    "RTMDetInsHead": _RTMDET_HEAD,
    "RTMDetInsSepBNHead": f"{_RTMDET_HEAD} share_conv",
    "Linear": "",
    "Conv": "",
    "AnchorGenerator": (
        "strides ratios scales base_sizes scale_major octave_base_scale scales_per_octave centers "
        "center_offset use_box_type"
    ),
    "MlvlPointGenerator": "strides offset",
    "DeltaXYWHBBoxCoder": (
        "target_means target_stds clip_border add_ctr_clamp ctr_clamp use_box_type"
    ),
    "DistancePointBBoxCoder": "clip_border use_box_type",
    "CrossEntropyLoss": (
        "use_sigmoid use_mask reduction class_weight ignore_index loss_weight avg_non_ignore"
    ),
    "FocalLoss": "use_sigmoid gamma alpha reduction loss_weight activated",
    "QualityFocalLoss": "use_sigmoid beta reduction loss_weight activated",
    "L1Loss": "reduction loss_weight",
    "SmoothL1Loss": "beta reduction loss_weight",
    "GIoULoss": "eps reduction loss_weight",
    "DiceLoss": "use_sigmoid activate reduction naive_dice loss_weight eps",
    "BN": _NORM,
    "BN2d": _NORM,
    "GN": _NORM,
    "LN": _NORM,
    "ReLU": "inplace",
    "LeakyReLU": "inplace negative_slope",
    "SiLU": "inplace",
    "GELU": "approximate",
    "Conv2d": "",
    "nearest": "scale_factor",
    "bilinear": "scale_factor align_corners",
    "deconv": "scale_factor",
    "Dropout": "drop_prob inplace",
    "DropPath": "drop_prob",
    "nms": "iou_threshold offset score_threshold max_num split_thr class_agnostic",
    "soft_nms": "iou_threshold sigma min_score method offset split_thr class_agnostic",
    "HungarianAssigner": "match_costs",
    "MaxIoUAssigner": (
        "pos_iou_thr neg_iou_thr min_pos_iou gt_max_assign_all ignore_iof_thr "
        "ignore_wrt_candidates match_low_quality gpu_assign_thr iou_calculator"
    ),
    "DynamicSoftLabelAssigner": "soft_center_radius topk iou_weight iou_calculator",
    "ClassificationCost": "weight",
    "FocalLossCost": "alpha gamma eps binary_input weight",
    "CrossEntropyLossCost": "use_sigmoid weight",
    "DiceCost": "pred_act eps naive_dice weight",
    "BboxOverlaps2D": "scale dtype",
    "MaskPseudoSampler": _SAMPLER,
    "PseudoSampler": _SAMPLER,
    "RandomSampler": _SAMPLER,
}
"""The arguments that each type may have."""

_ATTENTION = (
    "embed_dims num_heads num_levels num_points im2col_step dropout attn_drop proj_drop "
    "dropout_layer batch_first bias value_proj_ratio norm_cfg"
)
_STAGE = "allowed_border assigner debug mask_size pos_weight sampler"
_CHOICE = "mask_thr_binary max_per_img min_bbox_size nms nms_pre score_thr"

WITHOUT_TYPE: dict[str, str] = {
    "encoder": "num_layers layer_cfg num_cp",
    "transformer_decoder": "num_layers layer_cfg return_intermediate post_norm_cfg",
    "layer_cfg": "self_attn_cfg cross_attn_cfg ffn_cfg norm_cfg",
    "self_attn_cfg": _ATTENTION,
    "cross_attn_cfg": _ATTENTION,
    "ffn_cfg": (
        "embed_dims feedforward_channels num_fcs act_cfg ffn_drop dropout_layer add_identity "
        "layer_scale_init_value"
    ),
    "post_norm_cfg": "",
    "positional_encoding": "num_feats temperature normalize scale eps offset",
    "upsample_cfg": "mode scale_factor align_corners",
    "nms": "iou_threshold",
    "train_cfg": (
        f"{_STAGE} rpn rpn_proposal rcnn num_points oversample_ratio importance_sample_ratio"
    ),
    "test_cfg": (
        f"{_CHOICE} rpn rcnn panoptic_on semantic_on instance_on max_per_image iou_thr "
        "filter_low_score object_mask_thr"
    ),
    "rpn": f"{_STAGE} {_CHOICE}",
    "rpn_proposal": _CHOICE,
    "rcnn": f"{_STAGE} {_CHOICE}",
    "options": (
        "drop_rate drop_path_rate output_stride patch_size img_size init_values in_chans "
        "dynamic_img_size reg_tokens no_embed_class qkv_bias qk_norm ls_init_value"
    ),
}
"""The keys of dictionaries without a type, by the place where they stand."""

UNREAD = ("init_cfg", "pretrained", "weights")
"""Arguments that say what weights a training starts from: nothing in prediction reads them."""
TRAINING = "train_cfg"
"""What only a training reads: prediction leaves it out, with everything in it."""
