"""What runs inside Triton's Python backend: engines behind one small interface, and the batching model."""
