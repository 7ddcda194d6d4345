"""The picture with its detections drawn in."""
