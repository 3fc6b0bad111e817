"""Builds engines with TensorRT for RTX, on any machine, or with classic TensorRT, on the machine that runs them.

Both are one API: network, ONNX parser, builder. Precision lives in the graph, for both build strongly typed.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from grefine_rt.bundle.manifest import FileEntry, Manifest
from grefine_rt.bundle.store import mend
from grefine_rt.cancel import Cancels
from grefine_rt.engine.tensorrt import callbacks, memory
from grefine_rt.engine.tensorrt.profiles import Profile, profiles, restricted
from grefine_rt.engine.tensorrt.sidecar import (
    FORMAT,
    Environment,
    Flavour,
    Sidecar,
    Tensor,
    check_engine,
    engine_path,
    gpu_target,
    library,
    release,
    tensors,
)
from grefine_rt.engine.tensorrt.weights import Weights, inspect, precision, see_that_it_fits
from grefine_rt.errors import BundleError, Cancelled, DeviceError, OptionError, OutputError
from grefine_rt.files import cache_dir, sha256, written_whole
from grefine_rt.system_memory import free_memory, peak_memory, resident_memory

T = TypeVar("T")

OLDEST_CLASSIC = (10, 13)
"""The first release of classic TensorRT that builds what is built here."""


class EngineBuilder:
    """Builds graphs of bundles for `targets`, such as ("sm89",), with one flavour of TensorRT.

    weight_streaming: the engine may keep part of its weights in host memory; the plan decides at run time.

    Raises DeviceError when the flavour is not installed, or when classic TensorRT finds no GPU, and OptionError for
    targets that the flavour cannot build for.
    """

    def __init__(
        self, targets: tuple[str, ...], flavour: Flavour = "tensorrt-rtx", weight_streaming: bool = False
    ) -> None:
        self.flavour = flavour
        self._trt = library(flavour)
        self.version = str(self._trt.__version__)
        if flavour == "tensorrt" and release(self.version) < OLDEST_CLASSIC:
            oldest = ".".join(map(str, OLDEST_CLASSIC))
            raise DeviceError(
                f"Engines need TensorRT {oldest} or later, but {self.version} is installed: install a newer one."
            )
        self.targets = _checked_targets(self._trt, flavour, targets)
        self._flags = ["TF32"] + ["WEIGHT_STREAMING"] * weight_streaming
        # A build that succeeds proves that runs allocate nothing, so that a stream can capture them. Weights that
        # stream are never captured, and the builder refuses both together.
        self._flags += ["REQUIRE_USER_ALLOCATION"] * (flavour == "tensorrt-rtx" and not weight_streaming)
        # Scratch memory for the sizes at hand, not for the largest of a profile.
        self._previews = ["RUNTIME_ACTIVATION_RESIZE_10_10"]

    def fits(self, engine: Path, manifest: Manifest, environment: Environment) -> Sidecar | None:
        """The sidecar of an engine that this builder would only build again; None when it has to be built."""
        found = check_engine(engine, manifest, replace(environment, gpu=None))
        sidecar = found.sidecar
        if found.problem is not None or sidecar is None or sidecar.options.get("flags") != self._flag_text:
            return None
        return sidecar if (sidecar.version, sidecar.targets) == (self.version, self.targets) else None

    def engine_path(self, home: Path, graph: str) -> Path:
        """The path of a graph's engine in a folder of engines."""
        return engine_path(home, graph, self.flavour, self.targets)

    def build(
        self,
        folder: Path,
        manifest: Manifest,
        graph: str,
        engine: Path,
        on_progress: callbacks.OnProgress | None = None,
        cancel: Cancels | None = None,
    ) -> Sidecar:
        """Build `graph` of the bundle in `folder` into the file `engine`, its sidecar beside it; both appear whole.

        Raises BundleError when the graph's files are not what the manifest says, or the graph cannot be built;
        DeviceError when it needs more memory than there is, OutputError when the engine cannot be written, Cancelled.
        """
        sources = _proven(folder, manifest, graph)
        report = on_progress or (lambda fraction: None)
        try:
            engine.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(engine) as partial:
                sidecar = _aside(
                    lambda: self._build(folder, manifest, graph, sources, partial, report, cancel)
                )
                engine.with_suffix(".json").unlink(missing_ok=True)
            with written_whole(engine.with_suffix(".json")) as written:
                written.write_text(sidecar.to_json(), encoding="utf-8")
        except OSError as error:
            raise _unwritable(engine, error) from error
        finally:
            memory.give_back()
        return sidecar

    @property
    def _flag_text(self) -> str:
        return " ".join(self._flags + self._previews)

    def _build(
        self,
        folder: Path,
        manifest: Manifest,
        graph: str,
        sources: Mapping[str, str],
        partial: Path,
        report: callbacks.OnProgress,
        cancel: Cancels | None,
    ) -> Sidecar:
        begin = time.perf_counter()
        memory.give_back()  # else the build would reuse, uncounted, what this process freed before
        memory.forget_peak()
        before = resident_memory()
        available = free_memory()  # now, for what the parser will hold is part of the prediction
        # Before they are parsed nothing is known of the weights' types, so those that need least, nor how much of a
        # file that graphs share is this one's.
        own = [path for path in sources if PurePosixPath(path).name.startswith(PurePosixPath(graph).name)]
        size = sum((folder / path).stat().st_size for path in own)
        see_that_it_fits(graph, Weights(0, 0, size, 0, 0), available, partial.parent)
        trt = self._trt
        log = callbacks.logger(trt)
        builder = trt.Builder(log)
        network, parser = self._parsed(builder, folder / graph, graph, log)
        weights, products, softmaxes = inspect(trt, network, (folder / graph).stat().st_size)
        inputs = tensors(graph, [network.get_input(index) for index in range(network.num_inputs)])
        outputs = tensors(graph, [network.get_output(index) for index in range(network.num_outputs)])
        see_that_it_fits(graph, weights, available, partial.parent)
        config = self._configured(builder)
        chosen = _add_profiles(builder, config, inputs, manifest, graph)
        monitor = callbacks.monitor(trt, report, cancel)  # this name keeps it alive through the build
        config.progress_monitor = monitor
        entry = _write_engine(trt, builder, network, config, partial)
        del parser  # the network reads its weights until here
        if entry is None:
            if cancel is not None and cancel.cancelled:
                raise Cancelled("The build was cancelled.")
            raise self._impossible(graph, "built", log.reason)
        self._keep_timings(config)
        peak = peak_memory()
        return Sidecar(
            format=FORMAT,
            graph=graph,
            inputs=inputs,
            outputs=outputs,
            sources=sources,
            flavour=self.flavour,
            version=self.version,
            targets=self.targets,
            profiles=chosen,
            precision=precision(products["HALF"], products["FLOAT"]),
            storage=precision(weights.half + weights.widened, weights.single),
            attention=(log.fused // len(chosen), softmaxes),
            activations=tuple(log.activations),
            options={"flags": self._flag_text, "level": str(config.builder_optimization_level)},
            seconds=round(time.perf_counter() - begin, 2),
            memory=None if peak is None or before is None else peak - before,
            engine=entry,
        )

    def _parsed(self, builder: Any, file: Path, graph: str, log: Any) -> tuple[Any, Any]:
        """The network of the graph, and the parser, which must outlive it."""
        # A later release may know no other networks, and no flag.
        typed = getattr(self._trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if typed is None else 1 << int(typed))
        parser = self._trt.OnnxParser(network, log)
        if not parser.parse_from_file(str(file)):
            reason = " ".join(parser.get_error(0).desc().split()) if parser.num_errors else log.reason
            raise self._impossible(graph, "parsed", reason)
        return network, parser

    def _impossible(self, graph: str, what: str, reason: str) -> BundleError:
        # So it calls operators that it does not know, as ONNX Runtime's own are.
        portable = " and '--operators portable'" if "Plugin not found" in reason else ""
        return BundleError(
            f"'{graph}' cannot be {what} by {self.flavour} {self.version} ({reason}): export it again with this "
            f"version's 'grefine-export'{portable}."
        )

    def _configured(self, builder: Any) -> Any:
        """The builder's configuration for the targets, without profiles."""
        trt, config = self._trt, builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the log then names every kernel
        for flag in self._flags:
            config.set_flag(getattr(trt.BuilderFlag, flag))
        for feature in self._previews:
            config.set_preview_feature(getattr(trt.PreviewFeature, feature), True)
        if self.flavour == "tensorrt-rtx":
            config.num_compute_capabilities = len(self.targets)
            for index, target in enumerate(self.targets):
                config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
        else:
            timings = _timing_cache(self.version, self.targets[0])
            known = timings.read_bytes() if timings.is_file() else b""
            config.set_timing_cache(config.create_timing_cache(known), False)
        return config

    def _keep_timings(self, config: Any) -> None:
        """Of classic TensorRT, which measures kernels; without them the next build only takes longer."""
        if self.flavour == "tensorrt":
            timings = _timing_cache(self.version, self.targets[0])
            with suppress(OSError):
                timings.parent.mkdir(parents=True, exist_ok=True)
                with written_whole(timings) as temporary:
                    temporary.write_bytes(bytes(config.get_timing_cache().serialize()))


def _checked_targets(trt: Any, flavour: Flavour, targets: tuple[str, ...]) -> tuple[str, ...]:
    """The targets, each once and ascending."""
    chosen = tuple(sorted(set(targets), key=lambda target: (len(target), target)))
    if flavour == "tensorrt":
        gpu = gpu_target()
        if gpu is None:
            raise DeviceError(
                "Classic TensorRT builds only on a machine with the GPU that runs the engine, and none is here: "
                "build with --flavour tensorrt-rtx."
            )
        known: tuple[str, ...] = (gpu,)
    else:
        known = tuple(name.lower() for name in trt.ComputeCapability.__members__ if re.match(r"SM\d", name))
    wrong = [target for target in chosen if target not in known]
    if wrong or not chosen:
        raise OptionError(
            f"{flavour} cannot build for {wrong[0]!r}: choose from {', '.join(known)}."
            if wrong
            else f"No target is given: choose from {', '.join(known)}."
        )
    return chosen


def _proven(folder: Path, manifest: Manifest, graph: str) -> dict[str, str]:
    """SHA-256 of the graph's files, seen to be those of the manifest."""
    component = next(name for name, file in manifest.components.items() if file == graph)
    sources = {path: manifest.files[path].sha256 for path in manifest.files_of(component)}
    for path, expected in sources.items():
        if not (folder / path).is_file() or sha256(folder / path) != expected:
            raise BundleError(
                f"'{folder / path}' is missing or was changed, its SHA-256 differs from bundle.json: "
                f"{mend(folder)}."
            )
    return sources


def _unwritable(engine: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The engine cannot be written to '{engine}' ({error.strerror or error}): free some space, or choose another "
        f"folder with --out."
    )


def _add_profiles(
    builder: Any, config: Any, inputs: tuple[Tensor, ...], manifest: Manifest, graph: str
) -> tuple[Profile, ...]:
    """Adds a profile a bucket; returns the ranges of the axes that are free in this graph."""
    shapes = {tensor.name: tensor.spec.shape for tensor in inputs}
    free = {axis for shape in shapes.values() for axis in shape if isinstance(axis, str)}
    try:
        chosen = restricted(profiles(manifest, graph), free)
    except KeyError as error:
        raise BundleError(
            f"'{graph}' has the free axis {error}, for which bundle.json gives no range: export it again with this "
            f"version's 'grefine-export'."
        ) from error
    for ranges in chosen if free else ():
        profile = builder.create_optimization_profile()
        for name, shape in shapes.items():
            if any(isinstance(axis, str) for axis in shape):
                low, best, high = (
                    [ranges[axis][i] if isinstance(axis, str) else axis for axis in shape] for i in range(3)
                )
                profile.set_shape(name, low, best, high)
        config.add_optimization_profile(profile)
    return chosen


def _write_engine(trt: Any, builder: Any, network: Any, config: Any, path: Path) -> FileEntry | None:
    """Builds into the file, as a stream where the library can, which spares a copy of all weights in memory; None when
    the builder gives up. OSError when the file cannot be written."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        failures: list[OSError] = []

        def write(data: Any) -> int:
            try:
                file.write(data)
            except OSError as error:  # it may not pass through the library
                failures.append(error)
                return 0
            digest.update(data)
            return memoryview(data).nbytes  # the library's own object has no length

        if hasattr(builder, "build_serialized_network_to_stream"):
            done = builder.build_serialized_network_to_stream(network, config, callbacks.stream(trt, write))
        else:
            whole = builder.build_serialized_network(network, config)
            done = whole is not None and write(whole) > 0
        if failures:
            raise failures[0]
    return FileEntry(path.stat().st_size, digest.hexdigest()) if done else None


def _aside(work: Callable[[], T]) -> T:
    """`work` in a thread of its own: the builder compiles for minutes without a word, and Ctrl-C should be heard."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failures:
        raise failures[0]
    return results[0]


def _timing_cache(version: str, target: str) -> Path:
    return cache_dir() / "timings" / f"tensorrt-{version}-{target}.cache"
