"""S4M's strong augmentation: colour changes and blur of unlabelled images, never geometry."""

strong_pipeline = [
    dict(type="ColourJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.8),
    dict(type="RandomGrey", prob=0.2),
    dict(type="GaussianBlur", sigma=(0.1, 2.0), prob=0.5),
]
