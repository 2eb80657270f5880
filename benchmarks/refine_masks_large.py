"""Refine's work outside the network, 30 masks on an image of 1024 x 2048 (row 1).

Compared are drawing of points, preparation of the image, choice of candidate, upsampling and RLE.
The network itself is replaced by its answers: mask logits of made-up instances.
"""

from __future__ import annotations

from made_instances import street_scene
from refine_work import compare

if __name__ == "__main__":
    compare("refine_masks_large", 30, street_scene(), repeats=5)
