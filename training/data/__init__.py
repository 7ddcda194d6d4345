"""Labelled pictures in COCO's format with descriptions: read, written, checked, converted from other formats."""
