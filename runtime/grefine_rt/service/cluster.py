"""The same application under Ray Serve: replicas, each with one loaded bundle, behind Ray's own HTTP server."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from starlette.types import ASGIApp

from grefine_rt.batch.cluster import connected, pool_for
from grefine_rt.errors import HERE, GRefineError, OptionError
from grefine_rt.service.app import Replica

NAME = "grefine-rt"
"""The application's name on its cluster; one that is deployed again takes the place of the former."""


@contextmanager
def deployed(
    replica: Replica, replicas: int, host: str, port: int, address: str | None = None
) -> Iterator[int]:
    """Replicas on a Ray cluster, as long as the block runs; gives the port. At its end no new request is taken, and
    accepted ones are answered.

    address: of a running cluster, as in `connected`; without any, one starts on this machine and ends with the block.
    port: 0 takes a free one. A cluster that serves already keeps its own host and port. A replica reserves one GPU, or
    on the CPU `replica.threads` cores, 1 by default. Raises OptionError where there is no such cluster, or it is too
    small, or Ray Serve is not installed; DeviceError for a GPU where there is none; GRefineError where no replica
    starts.
    """
    # Ray kills and starts anew a proxy that is not ready within 5 s, on busy machines for ever.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", str(_PATIENCE))
    own = not (address or os.environ.get("RAY_ADDRESS"))
    with connected(address) as ray:
        serve = _serve_module()
        try:
            port = port or _free_port(host)
            _start(serve, host, port)
            try:
                _run(ray, serve, replica, replicas)
                if own:
                    _wait_for(host, port)
                yield port
            finally:
                _withdraw(serve)
        finally:
            if own:
                serve.shutdown()


_PATIENCE = 600
"""Seconds in which the HTTP server of a cluster that is started here must be there."""
_QUIET = {"log_level": "ERROR", "enable_access_log": False}


def _serve_module() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise OptionError(
            f"--engine ray needs Ray Serve, of which {error.name} is not installed: run pip install '.[serve,ray]' "
            f"{HERE}."
        ) from None
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return serve


def _start(serve: Any, host: str, port: int) -> None:
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


def _run(ray: Any, serve: Any, replica: Replica, replicas: int) -> None:
    """Deploy, and wait until every replica runs. Raises OptionError, DeviceError and GRefineError."""
    threads = replica.threads or 1
    pool, device = pool_for(ray, replica.device, replicas, threads)
    chosen = dataclasses.replace(replica, device=device, threads=threads)

    def app() -> ASGIApp:  # a function of its own, for Ray makes the application in each replica
        return chosen.app(chosen.load(), serve.get_replica_context().replica_id.unique_id)

    deployment = serve.deployment(
        serve.ingress(app)(),
        name=NAME,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": pool.cpus, "num_gpus": pool.gpus},
        # The application itself bounds its queue: what Ray held back here would wait without a limit of time.
        max_ongoing_requests=replica.limits.connections,
        graceful_shutdown_timeout_s=replica.limits.seconds + replica.limits.body_seconds,
        max_constructor_retry_count=1,
    )
    try:
        serve.run(deployment.bind(), name=NAME, route_prefix="/", logging_config=_QUIET)
    except RuntimeError as error:
        raise GRefineError(f"Ray Serve started no replica: {_last_line(error)}") from None


def _withdraw(serve: Any) -> None:
    """Take the application off its cluster, and wait until its replicas have answered their accepted requests."""
    serve.delete(NAME, _blocking=False)
    while NAME in serve.status().applications:
        time.sleep(0.1)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as taken:
        return int(taken.getsockname()[1])


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
