"""Refine's work outside the network, 20 masks on an image of 480 x 640 (row 2).

As `refine_masks_large.py`, with instances of sizes as in COCO.
"""

from __future__ import annotations

from made_instances import coco_scene
from refine_work import compare

if __name__ == "__main__":
    compare("refine_masks_coco", 6, coco_scene(), repeats=40)
