"""The comparison of an ONNX file with its module, the last step of every export."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from grefine_export.choices import Weights

BOUNDS: dict[Weights, float] = {"fp16": 2e-2, "fp32": 1e-4}
"""Relative L2 error against the torch module that each storage of weights may cost."""


class ParityError(Exception):
    """An exported graph differs from its module by more than the bound."""


def results(module: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """The outputs of `module`, in order, for `compare` once the module itself is gone."""
    with torch.no_grad():
        outputs = module.eval()(*inputs.values())
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def compare(
    module: nn.Module | Sequence[Tensor],
    path: str | os.PathLike[str],
    inputs: Mapping[str, Tensor],
    bound: float = 1e-4,
) -> dict[str, float]:
    """Relative L2 error ||onnx - torch|| / ||torch|| of each output, by name, on ONNX Runtime's CPU provider.

    Args:
        module: the module in single precision, or its `results` for these inputs. Of large models take those, cast
            the module, export and delete it: it and the session do not fit into memory side by side.
        inputs: by name, as for `convert.export`; other sizes of the free axes make a better test.
        bound: the largest error allowed, see `BOUNDS`.

    Raises ParityError, naming output and error, above the bound or where an output has another shape or is
    not finite; ONNX Runtime's own exceptions where the file does not load.
    """
    import onnxruntime

    expected = results(module, inputs) if isinstance(module, nn.Module) else module
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    got = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    errors = {}
    for output, reference, value in zip(session.get_outputs(), expected, got, strict=True):
        reference = reference.double().numpy()
        if value.shape != reference.shape:
            raise ParityError(
                f"{path}: '{output.name}' has shape {value.shape}, the module gives {reference.shape}"
            )
        norm = np.linalg.norm(reference)
        errors[output.name] = float(np.linalg.norm(value.astype(np.float64) - reference) / (norm or 1.0))
    worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    if not errors[worst] <= bound:
        raise ParityError(
            f"{path}: '{worst}' differs from the module by {errors[worst]:.2e}, allowed is {bound:.0e}"
        )
    return errors
