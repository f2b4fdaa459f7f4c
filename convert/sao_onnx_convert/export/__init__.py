"""From PyTorch modules to ONNX graphs, and the check of a graph against its module in ONNX Runtime."""
