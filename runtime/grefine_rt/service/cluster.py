"""The same application under Ray Serve: replicas, each with one loaded bundle, behind Ray's own HTTP server."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray import serve
from starlette.types import ASGIApp

from grefine_rt.errors import GRefineError, OptionError
from grefine_rt.service.app import Replica

NAME = "grefine-rt"
"""Of the application on its cluster; one that is deployed again takes the place of the former."""


@contextmanager
def deployed(
    replica: Replica, replicas: int, host: str, port: int, address: str | None = None
) -> Iterator[int]:
    """Replicas on a Ray cluster, as long as the block runs; gives the port. At its end no new request is taken, and
    accepted ones are answered.

    address: of a running cluster, "auto" or HOST:PORT; None starts one on this machine and ends it with the block.
    port: 0 takes a free one. A cluster that serves already keeps its own host and port. A replica reserves one GPU, or
    on the CPU its threads. Raises OptionError where there is no such cluster or it is too small, and GRefineError where
    no replica starts.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a cluster that is started here tells Ray's makers nothing
    # Ray kills and starts anew a proxy that is not ready within 5 s, on busy machines for ever.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", str(_PATIENCE))
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    own = address is None
    try:
        if own:
            ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise OptionError(f"There is no Ray cluster at '{address}': {_first_line(error)}") from None
    try:
        port = port or _free_port(host)
        _start(host, port)
        _run(replica, replicas)
        if own:
            _wait_for(host, port)
        yield port
    finally:
        _withdraw()
        if own:
            serve.shutdown()
        ray.shutdown()


_PATIENCE = 600
"""Seconds in which the HTTP server of a cluster that is started here must be there."""
_QUIET = {"log_level": "ERROR", "enable_access_log": False}


def _start(host: str, port: int) -> None:
    try:
        serve.start(http_options={"host": host, "port": port}, logging_config=_QUIET)
    except TimeoutError:  # a busy machine: Ray waits a minute for its HTTP server, which then comes later
        serve.start()


def _wait_for(host: str, port: int) -> None:
    """Returns once the HTTP server takes connections. Raises GRefineError."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with suppress(OSError):
            socket.create_connection((host, port), timeout=5).close()
            return
        time.sleep(0.2)
    raise GRefineError(f"The HTTP server of Ray Serve did not start within {_PATIENCE} s.")


def _run(replica: Replica, replicas: int) -> None:
    """Deploy, and wait until every replica runs. Raises OptionError and GRefineError."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needs = _needs(replica, replicas, nodes)
    places = sum(
        int(min(node.get(name, 0) // count for name, count in needs.items() if count)) for node in nodes
    )
    if places < replicas:
        what = f"{needs['GPU']:g} GPU" if needs["GPU"] else f"{needs['CPU']:g} CPU cores"
        raise OptionError(
            f"The cluster has room for {places} of {replicas} replicas with {what} each: ask for fewer replicas or "
            f"threads."
        )
    if not needs["GPU"]:
        replica = dataclasses.replace(replica, device="cpu", threads=int(needs["CPU"]))

    def app() -> ASGIApp:  # a function of its own, for Ray makes the application in each replica
        return replica.app(replica.load(), serve.get_replica_context().replica_id.unique_id)

    deployed = serve.deployment(
        serve.ingress(app)(),
        name=NAME,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": needs["CPU"], "num_gpus": needs["GPU"]},
        # The application itself bounds its queue: what Ray held back here would wait without a limit of time.
        max_ongoing_requests=replica.limits.connections,
        graceful_shutdown_timeout_s=replica.limits.seconds + replica.limits.body_seconds,
        max_constructor_retry_count=1,
    )
    try:
        serve.run(deployed.bind(), name=NAME, route_prefix="/", logging_config=_QUIET)
    except RuntimeError as error:
        raise GRefineError(f"Ray Serve started no replica: {_last_line(error)}") from None


def _needs(replica: Replica, replicas: int, nodes: list[dict[str, float]]) -> dict[str, float]:
    """CPU and GPU that a replica reserves: one GPU where it uses one, else the cores that it computes on."""
    gpu = replica.device != "cpu" and any(node.get("GPU", 0) for node in nodes)
    if gpu or replica.device not in ("auto", "cpu"):
        return {"CPU": 1, "GPU": 1}
    cores = [node.get("CPU", 0) for node in nodes]
    share = int(min(sum(cores) // replicas, max(cores, default=0)))
    return {"CPU": replica.threads or max(1, share), "GPU": 0}


def _withdraw() -> None:
    """Take the application off its cluster, and wait until its replicas have answered what they accepted."""
    serve.delete(NAME, _blocking=False)
    while NAME in serve.status().applications:
        time.sleep(0.1)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as taken:
        return int(taken.getsockname()[1])


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
