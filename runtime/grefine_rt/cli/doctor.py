"""`grefine-rt doctor`: installed packages, devices that work, backends of each bundle, missing parts."""

import platform
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grefine_rt import __version__
from grefine_rt.cli import options as shared
from grefine_rt.cli.output import console, print_json, status
from grefine_rt.errors import HERE

if TYPE_CHECKING:
    from pathlib import Path

_PACKAGES = (
    *("numpy", "pillow", "tokenizers", "typer", "rich", "onnxruntime", "onnxruntime-gpu"),
    *("onnxruntime-ep-nv-tensorrt-rtx", "tensorrt-rtx", "tensorrt", "cuda-core"),
)
_CPU_HINT = f"To run on CPUs: pip install '.[cpu]' {HERE}"
_GPU_HINT = f"To run on NVIDIA GPUs: pip uninstall onnxruntime, then pip install '.[gpu]' {HERE}"
_RTX_HINT = f"To let ONNX Runtime compile graphs for RTX GPUs by itself: pip install '.[rtx]' {HERE}"
_TENSORRT_HINT = (
    f"To run TensorRT engines: pip install '.[tensorrt]' {HERE}, then grefine-rt engine build BUNDLE"
)


def doctor(
    bundle: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BUNDLE",
            help="Names or folders to look at beside the bundles of 'bundle list'.",
            show_default=False,
        ),
    ] = None,
    as_json: shared.Json = False,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Devices to try, may be repeated. Default: cpu, cuda, and where they are installed rtx and tensorrt.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say what is installed, which devices work, which bundles are whole and what runs them, and what is missing.

    Exits with 1 when nothing could be refined here: no device works or no bundle is whole.
    """
    status("Looking at packages, devices and bundles")
    from dataclasses import asdict

    from grefine_rt.bundle.store import find_bundle
    from grefine_rt.engine import nvidia

    named = {name: find_bundle(name) for name in bundle or []}
    found = nvidia.gpus()
    facts: dict[str, Any] = {
        "grefine_rt": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "gpus": [asdict(gpu) for gpu in found],
        "devices": [_try_device(name) for name in device or _to_try(bool(found))],
        "bundles": _bundles(named),
    }
    facts["hints"] = _hints(facts)
    if as_json:
        print_json(facts)
    else:
        _show(facts)
    for entries, problem in (
        (_that_run_graphs(facts["devices"]), "no device works"),
        (facts["bundles"], "no bundle is whole"),
    ):
        if not any(entry["works"] for entry in entries):
            from grefine_rt.errors import GRefineError

            raise GRefineError(f"Nothing can be refined here, for {problem}: see the hints above.")


def _that_run_graphs(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All but TensorRT, which needs engines that were built."""
    return [entry for entry in devices if entry["backend"] != "tensorrt"]


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _to_try(gpu: bool) -> list[str]:
    """The devices that installed packages may serve; CPU and CUDA are always tried."""
    from grefine_rt.engine.onnxruntime import plugin
    from grefine_rt.engine.tensorrt.sidecar import Environment

    names = ["cpu", "cuda"]
    if gpu and plugin.installed():
        names.append("rtx")
    if gpu and _version("cuda-core") and Environment.here("").versions:
        names.append("tensorrt")
    return names


def _try_tensorrt(name: str) -> dict[str, Any]:
    """Build, load and run an engine of one node."""
    from grefine_rt.engine.devices import parse_device
    from grefine_rt.engine.tensorrt.probe import probe
    from grefine_rt.errors import GRefineError

    device, problem = name, None
    try:
        device = parse_device(name).tensor_device
        probe(device)
    except GRefineError as error:
        problem = str(error)
    return {"device": device, "backend": "tensorrt", "works": problem is None, "problem": problem}


def _try_device(name: str) -> dict[str, Any]:
    """Load and run a model of one node; nothing less shows that driver and libraries fit together."""
    import tempfile
    from pathlib import Path

    import numpy as np

    from grefine_rt.engine.onnxruntime.session import OnnxEngine
    from grefine_rt.errors import GRefineError

    if name.startswith("tensorrt"):
        return _try_tensorrt(name)
    from grefine_rt.engine.tensorrt.probe import IDENTITY

    device, problem = name, None
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.onnx"
            path.write_bytes(IDENTITY)
            engine = OnnxEngine(path, name)
            given = np.arange(3, dtype=np.float32)
            if not np.array_equal(engine.run({"x": given})["y"], given):
                problem = "It computes wrong values: update its driver."
            device = engine.device
    except GRefineError as error:
        problem = str(error)
    except OSError as error:
        problem = f"It could not be tried, for no temporary file can be written ({error})."
    backend = "onnxruntime-rtx" if name.startswith("rtx") else "onnxruntime"
    return {"device": device, "backend": backend, "works": problem is None, "problem": problem}


def _bundles(named: "dict[str, Path]") -> list[dict[str, Any]]:
    from dataclasses import asdict

    from grefine_rt.bundle.store import list_bundles, verify
    from grefine_rt.engine.devices import Choice
    from grefine_rt.errors import DeviceError, GRefineError
    from grefine_rt.models.bundle import Bundle

    found = []
    for name, folder in {**list_bundles(), **named}.items():
        version, problem = None, None
        backends: tuple[Choice, ...] = ()
        try:
            version = verify(folder).version
            backends = Bundle.open(name).foresee()
        except DeviceError:
            pass  # without ONNX Runtime there is nothing to choose from, and the hints say so
        except (GRefineError, OSError) as error:
            problem = str(error)
        found.append(
            {
                "name": name,
                "folder": str(folder),
                "version": version,
                "works": problem is None,
                "problem": problem,
                "backends": [asdict(choice) for choice in backends],
            }
        )
    return found


def _hints(facts: dict[str, Any]) -> list[str]:
    from grefine_rt.bundle.strict import REINSTALL

    packages = facts["packages"]
    works = {
        entry["device"].partition(":")[0] for entry in _that_run_graphs(facts["devices"]) if entry["works"]
    }
    hints = []
    if packages["onnxruntime"] and packages["onnxruntime-gpu"]:
        hints.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: uninstall both, "
            "then install one."
        )
    if packages["onnxruntime"] is None and packages["onnxruntime-gpu"] is None:
        hints.append(_CPU_HINT)
    if "cuda" not in works:
        hints.append(_GPU_HINT)
    if facts["gpus"] and packages["onnxruntime-ep-nv-tensorrt-rtx"] is None:
        hints.append(_RTX_HINT)
    if packages["cuda-core"] is None or not (packages["tensorrt-rtx"] or packages["tensorrt"]):
        hints.append(_TENSORRT_HINT)
    if not any(entry["works"] for entry in facts["bundles"]):
        hints.append(f"To get the embedded bundle: {REINSTALL} {HERE}")
    hints.append(f"To make bundles of your own: pip install '.[export]' {HERE}")
    return hints


def _show(facts: dict[str, Any]) -> None:
    from grefine_rt.engine.devices import Choice, summary

    out = console()
    out.print(
        f"grefine-rt {facts['grefine_rt']}, Python {facts['python']}, {facts['platform']}", soft_wrap=True
    )
    out.print(f"running from {sys.executable}", soft_wrap=True)
    out.print("\npackages", style="bold")
    for name, version in facts["packages"].items():
        out.print(f"  {name}: {version or 'not installed'}")
    out.print("\nGPUs", style="bold")
    for gpu in facts["gpus"]:
        memory = f"{gpu['used'] / 1e9:.1f} of {gpu['memory'] / 1e9:.1f} GB in use"
        out.print(f"  {gpu['name']}, driver {gpu['driver']}, {memory}", soft_wrap=True)
    if not facts["gpus"]:
        out.print("  none, or no driver")
    out.print("\ndevices", style="bold")
    for entry in facts["devices"]:
        out.print(f"  {entry['device']} ({entry['backend']}): {_state(entry, 'works')}", soft_wrap=True)
    out.print("\nbundles", style="bold")
    for entry in facts["bundles"]:
        out.print(f"  {entry['name']} in {entry['folder']}: {_state(entry, 'whole')}", soft_wrap=True)
        for backend, why in summary(Choice(**choice) for choice in entry["backends"]).items():
            out.print(f"    {backend}: {why}", soft_wrap=True)
    if not facts["bundles"]:
        out.print("  none")
    out.print("\nfor more", style="bold")
    for hint in facts["hints"]:
        out.print(f"  {hint}", soft_wrap=True)


def _state(entry: dict[str, Any], good: str) -> str:
    return good if entry["works"] else str(entry["problem"])
