"""COCO's recipe: large-scale jitter on a canvas of 1024 x 1024, a schedule of two steps."""

_base_ = ["./mask2former.py"]

side = 1024

model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(type="BatchFixedSizePad", size=(side, side), pad_mask=True, pad_seg=False)
        ]
    )
)

train_pipeline = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=(side, side),
        ratio_range=(0.1, 2.0),
        resize_type="Resize",
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(side, side),
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
# Short side 800, long side at most 1333.
test_scale = (1333, 800)

# 50 epochs of 118 000 images in batches of 16 are 368 750 iterations. The rate falls to a tenth
# after 327 778 and again after 355 092 of them, at the same shares of a training of other length.
schedule = dict(
    _delete_=True,
    kind="step",
    milestones=(327778 / 368750, 355092 / 368750),
    gamma=0.1,
    warmup=0,
)
