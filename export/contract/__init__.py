"""The vocabulary every room shares: tensors, defect classes, locations, tiles, boxes.

Imports nothing of ours and nothing beyond the standard library and numpy, so that a camera-side
process can use it without torch.
"""
