"""Boards and words in, a self-contained checkpoint out."""
