"""What can be chosen of a model and of its training, by name: shared by the modules and by the commands, which start
without PyTorch."""

from typing import Literal

Weights = Literal["fp16", "fp32"]
"""How a graph stores its weights; it computes in single precision."""
Precision = Literal["fp16", "fp16-storage", "fp32"]
"""Of a graph: half precision throughout (GPUs); weights in half, computation in single precision (CPUs); single."""
Operators = Literal["portable", "onnxruntime-cuda"]
"""What step and autoencoder graphs are made of: ONNX's operators of opset 20, which every backend takes; or those that ONNX
Runtime CUDA has one kernel for, an attention (`ai.onnx` Attention) and a group norm (`com.microsoft` GroupNorm), which no
other backend takes."""
Attention = Literal["vv", "vv-normalised"]
"""Reading of CLIP Surgery's second path, Eq. 1."""
Head = Literal["linear", "mlp"]
Positions = Literal["own", "shared"]
TextSide = Literal["qa", "table"]
"""Parts of an IP-IQA, see `models.ip_iqa`."""
Report = Literal["last", "best-on-test"]
"""Which epoch a split reports: the last, or as IP-IQA's authors do the one that agrees best with its own test side. The
second chooses with the test's answers, so its figures are too good; it is there to compare with theirs."""
