"""Runs this folder's engine inside Triton's Python backend."""

from export.runtime.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
