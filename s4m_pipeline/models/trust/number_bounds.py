"""How large the numbers and how long the lists of a model may be that a checkpoint describes.

They are far above those of any real model. What a model keeps in its weights is held to the size of
the file as well (``build_bounds``); what is made anew for each image, such as masks of all queries
or channels of the first map, is held by these bounds alone.
"""

from __future__ import annotations

LARGEST = 1 << 20
"""Of all other numbers."""
LONGEST = 64
"""Entries of a list."""
CLASSES = 1 << 16
LONG_LISTS = {"class_weight": CLASSES + 1}

_BOUNDS: dict[int, str] = {
    16: "scale_factor sampling_ratio num_fcs num_transformer_feat_level num_levels",
    64: (
        "num_stages num_outs num_shared_convs num_shared_fcs num_cls_convs num_cls_fcs "
        "num_reg_convs num_reg_fcs num_convs stacked_convs num_dyconvs num_csp_blocks "
        "scales_per_octave start_level end_level out_indices frozen_stages frozen_levels "
        "window_size pred_kernel_size conv_kernel_size kernel_size output_size "
        "self_attn_cfg.num_points cross_attn_cfg.num_points deepen_factor widen_factor "
        "expand_ratio mlp_ratio value_proj_ratio octave_base_scale "
        "patch_size output_stride"
    ),
    256: "num_layers num_cp depth depths num_heads position_grid roi_feat_size reg_tokens",
    2048: "num_queries max_per_image base_channels stem_channels",
    4096: (
        "max_per_img max_num size pretrain_img_size img_size pad_size_divisor num_groups groups "
        "base_width im2col_step num_prototypes dyconv_channels"
    ),
    8192: (
        "in_channels out_channels feat_channels embed_dims feedforward_channels num_feats "
        "conv_out_channels fc_out_channels in_chans"
    ),
    CLASSES: "num_classes num_things_classes num_stuff_classes",
}
_MOST = {name: bound for bound, names in _BOUNDS.items() for name in names.split()}


def most(part: str, place: str) -> int:
    """The largest absolute value of a number.

    Args:
        part: Where the dictionary stands that holds it.
        place: The argument's name.
    """
    return _MOST.get(f"{part}.{place}", _MOST.get(place, LARGEST))


def longest(place: str) -> int:
    """The most entries of a list that stands under an argument's name."""
    return LONG_LISTS.get(place, LONGEST)


def bounded() -> set[str]:
    """The names that have a bound of their own."""
    return {name.rpartition(".")[2] for name in _MOST} | set(LONG_LISTS)
