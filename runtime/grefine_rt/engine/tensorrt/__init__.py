"""Graphs as TensorRT engines: built, described, proven and run."""
