"""A Ray cluster for a batch: reaching it, counting its room, and getting every node ready before work begins."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from grefine_rt import __version__
from grefine_rt.assessor import Assessor
from grefine_rt.batch.runner import worker
from grefine_rt.engine.devices import parse_device
from grefine_rt.errors import HERE, DeviceError, GRefineError, OptionError

_REACHED = 5.0
"""Seconds in which a cluster has to answer."""
_LOCAL_STORE = 512 * 2**20
"""Bytes of the object store of a cluster that is started here: pictures are in it only on their way."""


@dataclass(frozen=True)
class Loading:
    """The arguments with which a node opens the bundle. device: one that `Assessor.load` takes. threads: CPU threads
    of a worker."""

    bundle: str
    device: str = "cpu"
    threads: int = 1

    def __call__(self) -> Assessor:
        """The worker on rows there. Raises BundleError and DeviceError."""
        return worker(Assessor.load(self.bundle, self.device, self.threads))

    def checksum(self) -> str:
        """The checksum of the bundle's manifest on this machine, after its engines are built where the device runs
        built ones.

        Raises BundleError and DeviceError.
        """
        kind = parse_device(self.device).kind
        if kind == "tensorrt":
            _build_engines(self.bundle)
        with Assessor.load(self.bundle, self.device, self.threads) as loaded:
            if kind != "cpu":  # caches of engines are filled once a node, not by each of its actors
                worker(loaded).warm_up()
            return str(loaded.bundle.manifest.checksum)


@dataclass(frozen=True)
class Pool:
    """The fixed pool of actors: their number, and the room of each. gpus: 0 or 1."""

    actors: int
    cpus: int
    gpus: int


def ray_module() -> Any:
    """The module ray, which sends no usage statistics. Raises OptionError where it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # The rest says what went wrong in a sentence; Ray's logs are in its session folder.
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Else threads of a run that was given up connect again, beside the next run.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    try:
        import ray.data
    except ImportError:
        raise OptionError(
            f"--engine ray needs Ray, which is not installed: run pip install '.[ray]' {HERE}."
        ) from None
    return ray


@contextmanager
def connected(address: str | None, cpus: int | None = None) -> Iterator[Any]:
    """Ray, connected to a cluster, or to one that is started here and ends with the block where there is no address.

    address: HOST:PORT of a cluster's head, or "auto" for the one that this machine belongs to; None takes $RAY_ADDRESS.
    Raises OptionError where ray is not installed or the cluster cannot be reached.
    """
    ray = ray_module()
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _check_reachable(address)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    mine = {"num_cpus": cpus, "object_store_memory": _LOCAL_STORE, "include_dashboard": False}
    try:
        ray.init(address=address or "local", **quiet, **({} if address else mine))
    except Exception as error:  # Ray raises bare ones, such as for a node that does not start in time
        raise OptionError(
            f"The Ray cluster at {address or 'this machine'} cannot be used: {_first_line(error)}."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises OptionError. Ray itself would try for minutes."""
    if address.startswith("ray://"):
        raise OptionError(
            "--address takes HOST:PORT of the cluster's head, not ray://: start the command on a node of the cluster."
        )
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHED).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = _first_line(error) if isinstance(error, OSError) else "it is no HOST:PORT"
        raise OptionError(
            f"There is no Ray cluster at {address} ({reason}): start one with "
            "'ray start --head', or leave --address out."
        ) from None


def pool_for(ray: Any, device: str, actors: int | None, threads: int, exact: bool = True) -> tuple[Pool, str]:
    """The pool, and the device of its actors, for a cluster as it is now.

    actors: None for as many as fit. exact: whether fewer will not do. Raises OptionError where they do not fit,
    DeviceError for a GPU where there is none.
    """
    kind = parse_device(device).kind
    gpus = 0 if kind == "cpu" else room_for(ray, Pool(1, 1, 1))
    if kind not in ("cpu", "auto") and not gpus:
        raise DeviceError(
            f"No node of the Ray cluster has a GPU for the device '{device}': use --device cpu."
        )
    fit = gpus or room_for(ray, Pool(1, threads, 0))
    wanted = fit if actors is None else actors if exact else min(actors, fit)
    if not 1 <= wanted <= fit:
        has = f"{gpus} GPUs" if gpus else f"room for {fit} actors of {threads} CPU cores"
        raise OptionError(f"The Ray cluster has {has}, too few for {max(wanted, 1)} actors.")
    # Ray shows an actor its own GPU alone, as number 0.
    chosen = "cpu" if not gpus else "auto" if kind == "auto" else kind
    return Pool(wanted, 1 if gpus else threads, 1 if gpus else 0), chosen


def room_for(ray: Any, pool: Pool) -> int:
    """The number of such actors that the present nodes can hold."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if pool.gpus:
        return sum(int(node.get("GPU", 0)) for node in nodes)
    return sum(int(node.get("CPU", 0) // pool.cpus) for node in nodes)


def get_ready(ray: Any, loading: Loading, pool: Pool, checksum: str | None) -> None:
    """On every node that may have an actor: see that it has this version and this bundle, and build engines once.

    checksum: of the bundle on this machine. Raises OptionError with the name of a node that is not as this machine.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    needs = {"num_gpus": 1, "num_cpus": 0} if pool.gpus else {"num_cpus": 0}
    nodes = [
        node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU" if pool.gpus else "CPU")
    ]
    asked = [
        ray.remote(_look_at_node)
        .options(**needs, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(loading)
        for node in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        name = f"The node {node['NodeManagerAddress']} of the Ray cluster"
        try:
            version, found, problem = ray.get(answer)
        except ray.exceptions.RayError as error:
            raise OptionError(
                f"{name} cannot run grefine-rt ({_first_line(cause_of(error))}): install grefine-rt "
                f"{__version__} there."
            ) from None
        if problem:
            raise OptionError(f"{name} cannot use the bundle: {problem}")
        if version != __version__:
            raise OptionError(
                f"{name} has grefine-rt {version}, this machine {__version__}: install the same one."
            )
        if found != checksum:
            raise OptionError(f"{name} has another bundle of this name than this machine: copy it there.")


def _look_at_node(loading: Loading) -> tuple[str, str, str]:
    """Version, checksum of the bundle, and a sentence where it cannot be used."""
    try:
        return __version__, loading.checksum(), ""
    except GRefineError as error:
        return __version__, "", str(error)


def _build_engines(bundle: str) -> None:
    """In a process of its own, which gives all memory of the GPU back. Raises DeviceError."""
    command = [sys.executable, "-m", "grefine_rt.cli", "engine", "build", bundle]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeviceError((done.stderr.strip().splitlines() or ["its engines could not be built."])[-1])


def cause_of(error: BaseException) -> BaseException:
    """The worker's own error, the innermost one of an error that Ray wrapped."""
    seen: list[BaseException] = [error]
    while True:
        inner = getattr(seen[-1], "cause", None) or seen[-1].__cause__
        if not isinstance(inner, BaseException) or inner in seen:
            ours: Sequence[BaseException] = [one for one in seen if isinstance(one, GRefineError)]
            return (ours or seen)[-1]
        seen.append(inner)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
