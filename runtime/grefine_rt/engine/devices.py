"""Names of devices, what there is of the CPU, and what was chosen for each component."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from grefine_rt.errors import DeviceError

Kind = Literal["auto", "cpu", "cuda", "tensorrt", "rtx"]
Flavour = Literal["tensorrt-rtx", "tensorrt"]
Backend = Literal["tensorrt", "onnxruntime-rtx", "onnxruntime-cuda", "onnxruntime-cpu"]

ORDER: tuple[Backend, ...] = ("tensorrt", "onnxruntime-cuda", "onnxruntime-rtx", "onnxruntime-cpu")
"""What "auto" tries, in this order."""

BACKENDS: dict[Kind, Backend] = {
    "tensorrt": "tensorrt",
    "rtx": "onnxruntime-rtx",
    "cuda": "onnxruntime-cuda",
    "cpu": "onnxruntime-cpu",
}


@dataclass(frozen=True)
class Device:
    """A device by the name that the user gave it. index: which GPU, 0 for "auto" and "cpu"."""

    name: str
    kind: Kind
    index: int

    def __str__(self) -> str:
        return self.name

    @property
    def tensor_device(self) -> str:
        """The device that tensors lie on: "cpu" or "cuda:N"."""
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


@dataclass(frozen=True)
class Choice:
    """The backend of a component, its device ("cpu" or "cuda:N"), and the reason: a sentence."""

    component: str
    backend: Backend
    device: str
    reason: str


def cores() -> int:
    """Processors that this process may use, as the system counts them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_device(name: str) -> Device:
    """The device that a name stands for: "auto", "cpu", "cuda", "tensorrt" or "rtx", the last three perhaps with ":N".

    Raises DeviceError for another name.
    """
    match = re.fullmatch(r"(auto|cpu)|(cuda|tensorrt|rtx)(?::(\d+))?", name)
    if match is None:
        raise DeviceError(
            f"Unknown device '{name}': use 'auto', 'cpu', 'cuda' or 'cuda:N' with a GPU number N, or likewise "
            f"'tensorrt' or 'rtx'."
        )
    return Device(name, cast(Kind, match.group(1) or match.group(2)), int(match.group(3) or 0))


def summary(choices: Iterable[Choice]) -> dict[str, str]:
    """The choices, a row for each backend and device: the components that share a reason, and the reason."""
    shared: dict[tuple[str, str], list[str]] = {}
    for choice in choices:
        shared.setdefault((f"{choice.backend} on {choice.device}", choice.reason), []).append(
            choice.component
        )
    rows: dict[str, str] = {}
    for (title, reason), components in shared.items():
        who = ", ".join(components) if len(shared) > 1 else "all components"
        rows[title] = f"{rows[title]} {who}: {reason}" if title in rows else f"{who}: {reason}"
    return rows
