"""Graphs on ONNX Runtime: CPU, CUDA, and its TensorRT-RTX plugin."""
