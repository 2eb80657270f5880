"""The ablation's model for microscopy: a hundred instances and more in an image of 256 px."""

_base_ = ["./ablation_model.py"]

model = dict(panoptic_head=dict(num_queries=150), test_cfg=dict(max_per_image=150))
