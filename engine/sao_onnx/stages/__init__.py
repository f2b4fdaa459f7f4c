"""The networks as functions of arrays, over ONNX Runtime sessions."""
