"""ResNet: detectron2's names. Torchvision's are MMDetection's own.

Neither name says where a bottleneck strides. Mask2Former sets detectron2's ``STRIDE_IN_1X1`` to
False: the 3 x 3 convolution strides, as in torchvision and with MMDetection's ``style="pytorch"``.
"""

from __future__ import annotations

from s4m_pipeline.models.conversion.keys import Rule

CONVOLUTIONS = (1, 2, 3)
STAGES = (2, 3, 4, 5)


def _rules() -> list[Rule]:
    """Rules below the backbone; a basic block has two convolutions, a bottleneck three."""
    rules = [
        Rule("stem.conv1.weight", "conv1.weight"),
        Rule("stem.conv1.norm.*", "bn1.*"),
    ]
    for stage in STAGES:
        theirs, ours = f"res{stage}.{{}}", f"layer{stage - 1}.{{}}"
        for number in CONVOLUTIONS:
            rules += [
                Rule(f"{theirs}.conv{number}.weight", f"{ours}.conv{number}.weight"),
                Rule(f"{theirs}.conv{number}.norm.*", f"{ours}.bn{number}.*"),
            ]
        rules += [
            Rule(f"{theirs}.shortcut.weight", f"{ours}.downsample.0.weight"),
            Rule(f"{theirs}.shortcut.norm.*", f"{ours}.downsample.1.*"),
        ]
    return rules


RULES = _rules()
