"""Cityscapes' recipe: short sides from 512 to 2048, crops of 512 x 1024, SSD's colour changes."""

_base_ = ["./mask2former.py"]

longest = 4096
short_sides = [1024 * tenths // 10 for tenths in range(5, 21)]

train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomChoiceResize",
        scales=[(longest, short) for short in short_sides],
        resize_type="Resize",
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(1024, 512),  # width, height
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
# Labelled images alone: the colour changes of the SSD detector.
weak_pipeline = [
    dict(type="SsdColours", brightness=32, contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=18),
]
# Short side 1024, long side at most 2048.
test_scale = (2048, 1024)

schedule = dict(kind="poly", power=0.9, warmup=0)
