"""Encoded pictures to pixels, and pixels to the outline of a defect."""
