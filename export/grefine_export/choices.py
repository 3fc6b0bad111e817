"""The choices on a model and its training, by name: shared by the modules and by the commands, which start
without PyTorch."""

from typing import Literal

Weights = Literal["fp16", "fp32"]
"""The type in which a graph stores its weights; it computes in single precision."""
Precision = Literal["fp16", "fp16-storage", "fp32"]
"""The precision of a graph: half precision throughout (GPUs); weights in half, computation in single precision
(CPUs); single."""
VaePrecision = Literal["auto", "fp16", "fp16-storage", "fp32"]
"""The precision of an autoencoder's graphs; auto: half precision where the UNet computes in it and the weights are
safe for it, see `vae_component.precision_of`."""
Operators = Literal["portable", "onnxruntime-cuda"]
"""The operators of steps and autoencoders: operators of opset 20, which every backend takes; or the ones that ONNX
Runtime CUDA has one kernel for and no other backend takes, `ai.onnx` Attention and `com.microsoft` GroupNorm.
"""
Attention = Literal["vv", "vv-normalised"]
"""Reading of CLIP Surgery's second path, Eq. 1."""
Head = Literal["linear", "mlp"]
Positions = Literal["own", "shared"]
TextSide = Literal["qa", "table"]
"""Parts of an IP-IQA, see `models.ip_iqa`."""
Report = Literal["last", "best-on-test"]
"""The epoch that a split reports: the last, or as IP-IQA's authors do the one that agrees best with its own test
side. The second chooses with the test's answers, so its figures are too good; it is there to compare with theirs."""
