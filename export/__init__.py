"""Checkpoint in, engines in a Triton model repository out."""
