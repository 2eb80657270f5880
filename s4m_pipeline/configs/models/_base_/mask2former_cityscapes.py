"""Cityscapes' recipe: short sides from 512 to 2048, crops of 512 x 1024, a polynomial schedule."""

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
# Short side 1024, long side at most 2048.
test_scale = (2048, 1024)

schedule = dict(kind="poly", power=0.9, warmup=0)
