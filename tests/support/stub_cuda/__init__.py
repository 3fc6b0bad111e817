"""CUDA without a GPU: stub libraries on which the real onnxruntime-gpu and cuda.core run, see `docs/stub_cuda.md`."""
