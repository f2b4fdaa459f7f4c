"""ONNX Runtime, and the machine that it runs on."""
