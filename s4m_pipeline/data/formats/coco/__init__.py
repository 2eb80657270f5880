"""COCO's JSON: read, checked and written."""
