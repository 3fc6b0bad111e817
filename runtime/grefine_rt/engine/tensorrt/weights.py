"""The weights and the work of a parsed graph, and whether memory and disk suffice to build it."""

import math
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grefine_rt.engine.tensorrt.sidecar import Precision
from grefine_rt.errors import DeviceError, OutputError

_PRODUCTS = ("MATRIX_MULTIPLY", "CONVOLUTION", "DECONVOLUTION", "EINSUM", "ATTENTION_INPUT")
_KERNELS = {"CONVOLUTION": "IConvolutionLayer", "DECONVOLUTION": "IDeconvolutionLayer"}
_SOFTMAXES = ("SOFTMAX", "ATTENTION_INPUT")


@dataclass(frozen=True)
class Weights:
    """The constants of a parsed graph in bytes: computed in FP16; stored in FP16 but computed in FP32;
    stored in FP32. `inline` is the size of the graph file itself, which the parser reads whole."""

    half: int
    widened: int
    single: int
    inline: int
    layers: int

    @property
    def built(self) -> int:
        """Bytes of the weights in the engine."""
        return self.half + 2 * self.widened + self.single

    @property
    def peak(self) -> int:
        """Bytes of host memory that a build needs at its peak, for engines written as a stream.

        Fitted to builds by TensorRT for RTX 1.7 of 10 MB to 5 GB of weights: see docs/engines.md.
        """
        weights = 3.4 * self.half + 4.5 * self.widened + 2.3 * self.single
        return int(0.4e9 + 0.1e6 * self.layers + self.inline + weights)


def inspect(trt: Any, network: Any, inline: int) -> tuple[Weights, Counter[str], int]:
    """Weights; products and convolutions by data type; softmaxes."""
    constants: dict[str, tuple[str, int]] = {}
    products: Counter[str] = Counter()
    softmaxes, widened = 0, 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.type.name
        if kind == "CONSTANT":
            made = layer.get_output(0)
            constants[made.name] = made.dtype.name, math.prod(made.shape) * made.dtype.itemsize
        elif kind == "CAST":
            dtype, size = constants.get(layer.get_input(0).name, ("", 0))
            widened += size if dtype == "HALF" else 0
        elif kind in _KERNELS and layer.num_inputs == 1:  # the kernel is no tensor, but a part of the layer
            layer.__class__ = getattr(trt, _KERNELS[kind])
            constants[layer.name] = layer.get_input(0).dtype.name, layer.kernel.nbytes
        if kind in _PRODUCTS:
            products[layer.get_input(0).dtype.name] += 1
        softmaxes += kind in _SOFTMAXES
    half, single = (
        sum(size for dtype, size in constants.values() if dtype == wanted) for wanted in ("HALF", "FLOAT")
    )
    return Weights(half - widened, widened, single, inline, network.num_layers), products, softmaxes


def precision(half: int, single: int) -> Precision:
    """The precision of nine tenths or more; "mixed" when neither has so much."""
    if half >= 9 * single and half:
        return "fp16"
    return "fp32" if single >= 9 * half else "mixed"


def see_that_it_fits(graph: str, weights: Weights, available: int | None, folder: Path) -> None:
    """Raise DeviceError where `available` bytes of memory are too few for a build, OutputError where the folder has no
    room for the engine."""
    if available is not None and weights.peak > available:
        raise DeviceError(
            f"Building '{graph}' needs about {weights.peak / 2**30:.1f} GiB of memory, but {available / 2**30:.1f} GiB "
            f"are free: close other programs, or build it on a machine with more and copy the folder 'engines'."
        )
    free = shutil.disk_usage(folder).free
    if weights.built > free:
        raise OutputError(
            f"The engine of '{graph}' takes about {weights.built / 1e9:.1f} GB, but '{folder}' has room for "
            f"{free / 1e9:.1f} GB: free some space, or choose another folder with --out."
        )
