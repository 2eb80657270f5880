"""Images and labels in: COCO files, splits, checks, datasets, transforms and metrics."""
