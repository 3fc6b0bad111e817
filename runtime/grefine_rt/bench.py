"""How long everything takes, on whatever device: cold start, loading, each component, a whole refine call.

The work is the same for every bundle and machine: a drawn picture at the given resolution, a fixed prompt, a mask over
the middle quarter of the picture, stage 1 at its strongest. What the models think of the picture decides nothing.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from grefine_rt import __version__
from grefine_rt.arrays import Mask, Rgb
from grefine_rt.engine import nvidia
from grefine_rt.engine.devices import cores
from grefine_rt.errors import GRefineError, OptionError
from grefine_rt.models.warm_up import PROMPT, example_inputs, one_of_each
from grefine_rt.system_memory import peak_memory

if TYPE_CHECKING:
    from grefine_rt.assess.indicator import Assessment
    from grefine_rt.models.bundle import Bundle
    from grefine_rt.plan.options import RefineOptions
    from grefine_rt.plan.plan import RefinePlan
    from grefine_rt.refiner import Refiner

RUNS = 20

Row = dict[str, float]
"""`median` and `p95` in milliseconds over `runs` runs; `first`, the run that warmed up, where there was one."""
OnPart = Callable[[str], None]
"""Called with the name of what is measured next."""


def picture(side: int) -> Rgb:
    """A picture to work on, uint8 (side, side, 3): sky, ground, a house and a sun. The same at every call."""
    y, x = np.mgrid[:side, :side] / side
    rgb = np.stack([0.5 + 0.2 * y, 0.7 - 0.1 * y, 0.9 - 0.2 * y], axis=-1)
    rgb[y > 0.7] = (0.3, 0.6, 0.25)
    rgb[(abs(x - 0.45) < 0.18) & (abs(y - 0.6) < 0.16)] = (0.75, 0.2, 0.15)
    rgb[(x - 0.8) ** 2 + (y - 0.2) ** 2 < 0.01] = (0.95, 0.85, 0.2)
    return np.asarray(255 * rgb, np.uint8)


def middle(side: int) -> Mask:
    """The mask, bool (side, side): the middle quarter of the picture."""
    mask = np.zeros((side, side), np.bool_)
    mask[side // 4 : side - side // 4, side // 4 : side - side // 4] = True
    return mask


def measure(
    refiner: Refiner,
    resolution: int | None = None,
    runs: int = RUNS,
    on_part: OnPart = lambda name: None,
) -> dict[str, Any]:
    """Loading, components and the whole refine call of an opened refiner, in this process.

    resolution: side of the picture in pixels, at which components are timed too; None for that of stage 1, and each
    component at its stage's own. Times are milliseconds.
    `outside_engines` is the share of a refine call that is spent outside of engine runs. `device_peak_mb` is what the
    GPU, where there is a single one, had more in use in one refine call more than when this was called (`device_peak`);
    other processes count too. Raises OptionError for fewer than 2 runs or a side below 64, BundleError and DeviceError.
    """
    if runs < 2:
        raise OptionError(f"The number of runs must be at least 2, but got {runs}.")
    bundle = refiner.bundle
    inpaint, _ = bundle.manifest.stages
    side = inpaint.resolution if resolution is None else resolution
    if side < 64:
        raise OptionError(f"The resolution must be at least 64 pixels, but got {side}.")
    before = _used()
    load: dict[str, float] = {}
    components: dict[str, Row] = {}
    for name in one_of_each(bundle.manifest, bundle.manifest.components):
        on_part(name)
        start = time.perf_counter()
        bundle.engine(name)
        load[name] = 1000 * (time.perf_counter() - start)
        components[name] = _component(bundle, name, resolution, runs)
    on_part("refine")
    whole, parts, outside = _refine(refiner, side, runs)
    peak: float | None = None
    if before is not None and bundle.engine("perceptual").device != "cpu":
        peak = (device_peak(lambda: _refine(refiner, side, 1)) - before) / 1e6
    return {
        "bundle": {"name": bundle.manifest.name, "version": bundle.manifest.version},
        "device": bundle.engine("perceptual").device,
        "backends": {choice.component: choice.backend for choice in bundle.choices},
        "resolution": side,
        "load": load,
        "components": components,
        "refine": whole,
        "parts": parts,
        "outside_engines": outside,
        "images_per_minute": 60_000 / whole["median"],
        "memory": {"host_peak_mb": host_peak(), "device_peak_mb": peak},
        "machine": machine(),
    }


def cold_start(
    bundle: str, device: str, threads: int | None, resolution: int, cuda_graphs: bool = False
) -> dict[str, float]:
    """Seconds from starting a process to its first assessment and first refined picture, and its peak memory in MB.

    Raises GRefineError with the sentence of the process when it fails.
    """
    request = json.dumps([resolution, bundle, device, threads, cuda_graphs])
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "grefine_rt.bench", request], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sentence = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise GRefineError(f"The process that measures the cold start failed: {sentence}")
    found: dict[str, float] = json.loads(done.stdout)
    return {
        "assess_s": found["assessed"] - started,
        "refine_s": found["refined"] - started,
        "import_s": found["import_s"],
        "host_peak_mb": found["host_peak_mb"],
    }


def _cold(resolution: int, *loading: Any) -> None:
    """What the process of `cold_start` does."""
    start = time.perf_counter()
    import grefine_rt

    imported = time.perf_counter() - start
    refiner = grefine_rt.Refiner.load(*loading)
    image = picture(resolution)
    before = refiner.assess(image, PROMPT)
    assessed = time.time()
    refiner.refine(image, PROMPT, options=_options(), plan=_plan(refiner, before))
    found = {
        "import_s": imported,
        "assessed": assessed,
        "refined": time.time(),
        "host_peak_mb": host_peak(),
    }
    print(json.dumps(found))


def _component(bundle: Bundle, name: str, side: int | None, runs: int) -> Row:
    engine = bundle.engine(name)
    arrays = example_inputs(bundle, name, side)
    return _times(lambda: engine.run(arrays), runs)


def _options() -> RefineOptions:
    """The picture is drawn for no bundle, so it may be outside the domain of each."""
    from grefine_rt.plan.options import RefineOptions

    return RefineOptions(outside="refine")


def _plan(refiner: Refiner, before: Assessment) -> RefinePlan:
    """Both stages, whatever the assessment says."""
    from grefine_rt.plan.change import with_mask

    plan = with_mask(refiner.plan(before), middle(before.perceptual_map.shape[0]))
    return replace(plan, strength=refiner.bundle.manifest.plan.strength_max, restore=True)


def _refine(refiner: Refiner, side: int, runs: int) -> tuple[Row, dict[str, float], float]:
    """The whole call; the median of each of its parts; and the share of the time outside of engine runs."""
    image = picture(side)
    plan, options = _plan(refiner, refiner.assess(image, PROMPT)), _options()
    bundle = refiner.bundle
    engines = [bundle.engine(name) for name in one_of_each(bundle.manifest, bundle.manifest.components)]
    seen: list[dict[str, float]] = []
    inside: list[float] = []

    def call() -> None:
        before = sum(engine.seconds for engine in engines)
        seen.append(refiner.refine(image, PROMPT, options=options, plan=plan).timings)
        inside.append(1000 * (sum(engine.seconds for engine in engines) - before) / seen[-1]["total"])

    row = _times(call, runs)
    parts = {name: statistics.median(one[name] for one in seen[1:]) for name in seen[0] if name != "total"}
    return row, parts, 1 - statistics.median(inside[1:])


def _times(call: Callable[[], object], runs: int) -> Row:
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    first, rest = times[0], times[1:]
    return {
        "first": first,
        "median": statistics.median(rest),
        "p95": float(np.percentile(rest, 95)),
        "runs": runs,
    }


def host_peak() -> float | None:
    """`system_memory.peak_memory` in MB."""
    held = peak_memory()
    return None if held is None else held / 1e6


def device_peak(work: Callable[[], object]) -> int:
    """The most bytes that all processes had in use on the only GPU while `work` ran, asked of its driver over and over;
    0 without one."""
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while True:
            most = max(most, _used() or 0)
            if done.wait(0.02):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return most


def _used() -> int | None:
    """Bytes in use on the only GPU; None where there is none, or several, which CUDA may number in another order."""
    found = nvidia.gpus()
    return found[0].used if len(found) == 1 else None


def machine() -> dict[str, Any]:
    """What was measured on: processor, clock, devices and versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"grefine-rt": __version__, "python": platform.python_version()}
    for name in ("numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt-rtx", "tensorrt"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "system": platform.platform(),
        "cores": cores(),
        **_processor(),
        "gpus": _nvidia("--query-gpu=name,driver_version,clocks.sm,clocks.max.sm"),
        "versions": versions,
    }


def _processor() -> dict[str, Any]:
    """Name and present clock from /proc/cpuinfo, where there is one."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            rows = dict(line.strip().split(":", 1) for line in file if ":" in line)
    except OSError:
        return {"processor": platform.processor()}
    rows = {name.strip(): value.strip() for name, value in rows.items()}
    clock = rows.get("cpu MHz")
    return {
        "processor": rows.get("model name", platform.processor()),
        "mhz": None if clock is None else float(clock),
    }


def _nvidia(query: str) -> list[str]:
    """Rows that nvidia-smi answers; none without it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def setup(result: Mapping[str, Any]) -> dict[str, str]:
    """What two results must have in common for their figures to be compared, by name."""
    bundle, here = result["bundle"], result["machine"]
    return {
        "bundle": f"{bundle['name']} {bundle['version']}",
        "resolution": str(result["resolution"]),
        "device": result["device"],
        "backends": ", ".join(sorted({*result.get("backends", {}).values()})),
        "processor": f"{here['cores']} cores of {here['processor']}",
        "GPUs": "; ".join(row.split(", ")[0] for row in here["gpus"]) or "none",
        **here["versions"],
    }


def rows(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a result that can be compared with another's, by name."""
    cold = result.get("cold_start", {}).items()
    found = {f"cold start, {name}": float(value) for name, value in cold if value is not None}
    found |= {f"load {name} (ms)": float(value) for name, value in result["load"].items()}
    for name, row in (*result["components"].items(), ("refine", result["refine"])):
        found |= {f"{name}, {key} (ms)": float(row[key]) for key in ("median", "p95")}
    found |= {f"refine: {name} (ms)": float(value) for name, value in result["parts"].items()}
    found |= {"outside of engines (%)": 100 * result["outside_engines"]}
    found |= {"images per minute": result["images_per_minute"]}
    memory = result["memory"].items()
    found |= {f"memory, {name}": float(value) for name, value in memory if value is not None}
    return found


if __name__ == "__main__":
    try:
        _cold(*json.loads(sys.argv[1]))
    except GRefineError as error:
        sys.exit(str(error))
