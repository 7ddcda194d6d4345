"""ONNX graphs to TensorRT plans: precision by graph, optimisation profiles, the build, and running a plan."""
