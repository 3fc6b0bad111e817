"""`grefine-rt serve`: the HTTP service."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from grefine_rt.cli import options as shared
from grefine_rt.errors import HERE, OptionError

if TYPE_CHECKING:
    from grefine_rt.service.app import Replica

_LIMITS, _RAY = "Limits of a request", "Ray Serve"


_Host = Annotated[str, typer.Option(help="Address to listen on; beyond this machine only with a token.")]
_Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
_TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Holds the token that clients must send as Authorization: Bearer. Default: $GREFINE_TOKEN.",
        show_default=False,
    ),
]
_Workers = Annotated[int, typer.Option(min=1, max=64, help="Requests that run at the same time.")]
_Queue = Annotated[int, typer.Option(min=0, help="Requests that may wait; others get 429.")]
_Together = Annotated[
    int | None,
    typer.Option(
        "--batch",
        min=1,
        help="Waiting assessments made in one run of a graph. Default: 8 where the bundle gives the bits of one "
        "alone then, which is tried at the start; else 1.",
        show_default=False,
    ),
]
_MaxMib = Annotated[float, typer.Option(min=0.01, help="MiB of a body.", rich_help_panel=_LIMITS)]
_MaxMegapixels = Annotated[
    float, typer.Option(min=0.01, help="Million pixels of a picture.", rich_help_panel=_LIMITS)
]
_MaxPrompt = Annotated[int, typer.Option(min=1, help="Characters.", rich_help_panel=_LIMITS)]
_TimeLimit = Annotated[
    float,
    typer.Option(min=1, help="Seconds until the answer, waiting included.", rich_help_panel=_LIMITS),
]
_WarmUp = Annotated[bool, typer.Option(help="Load every model before the first request.")]
_Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="ray: replicas under Ray Serve; needs the extra [ray].", rich_help_panel=_RAY),
]
_Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="The cluster's head, or auto; with a token. Default: $RAY_ADDRESS, else this machine alone.",
        show_default=False,
        rich_help_panel=_RAY,
    ),
]
_Replicas = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Each has a loaded bundle, workers and a queue of its own, and a GPU or --threads cores, 1 by "
        "default. Default: 1.",
        show_default=False,
        rich_help_panel=_RAY,
    ),
]


def serve(
    bundle: shared.Bundle = "mini",
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    host: _Host = "127.0.0.1",
    port: _Port = 8642,
    token_file: _TokenFile = None,
    workers: _Workers = 1,
    queue: _Queue = 16,
    together: _Together = None,
    max_mib: _MaxMib = 32,
    max_megapixels: _MaxMegapixels = 16,
    max_prompt: _MaxPrompt = 4000,
    time_limit: _TimeLimit = 300,
    warm_up: _WarmUp = True,
    engine: _Engine = "local",
    address: _Address = None,
    replicas: _Replicas = None,
) -> None:
    """Refine and assess over HTTP, with a page at / for people. Ctrl-C or SIGTERM: accepted requests finish first.

    Example: grefine-rt serve --port 8642
    """
    from grefine_rt.cli.output import status

    status("Starting the service")
    from grefine_rt.service.limits import ServiceLimits, check_exposure

    if engine == "local" and (address or replicas):
        raise OptionError("The options --address and --replicas are for --engine ray.")
    token = _token(token_file)
    check_exposure(host, token)
    limits = ServiceLimits(
        body_bytes=int(max_mib * 2**20),
        pixels=int(max_megapixels * 1e6),
        prompt=max_prompt,
        seconds=time_limit,
        waiting=queue,
        workers=workers,
        together=together,
    )
    with _needing_packages():
        from grefine_rt.service.app import Replica
    replica = Replica(bundle, device, threads, limits, token, warm_up)
    if engine == "ray":
        _serve_replicas(replica, replicas or 1, host, port, address)
    else:
        _serve_here(replica, host, port)


def _serve_here(replica: "Replica", host: str, port: int) -> None:
    from grefine_rt.cli.output import Terminated, say

    with _needing_packages():
        import uvicorn

        from grefine_rt.service.connections import protocol
    with _bound(host, port) as listening, replica.load() as refiner:
        config = uvicorn.Config(
            replica.app(refiner),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=5,
            limit_concurrency=replica.limits.connections,
            http=protocol(replica.limits.body_seconds),
        )
        server = uvicorn.Server(config)
        say(f"grefine-rt serves {_url(host, listening.getsockname()[1])}")
        try:
            server.run(sockets=[listening])
        except (KeyboardInterrupt, Terminated):
            say("stopped; accepted requests were answered")


def _bound(host: str, port: int) -> socket.socket:
    """A socket of the address, port 0 for a free one. Raises OptionError where the address cannot be had."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name != "nt":  # there it would share the port with another process
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OptionError(
            f"The service cannot listen on {host}, port {port}: {error.strerror or error}. Choose another --port "
            f"or --host."
        ) from None
    return bound


def _serve_replicas(replica: "Replica", replicas: int, host: str, port: int, address: str | None) -> None:
    from signal import SIGTERM, signal
    from threading import Event

    from grefine_rt.cli.output import Terminated, say, terminate
    from grefine_rt.service.cluster import deployed

    address = address or os.environ.get("RAY_ADDRESS")
    if address is not None and replica.token is None:
        raise OptionError(
            "A cluster may serve other machines: with --address give --token-file FILE, or set GREFINE_TOKEN."
        )
    try:
        with deployed(replica, replicas, host, port, address) as taken:
            say(f"grefine-rt serves {_url(host, taken)} with {replicas} replicas on Ray")
            signal(SIGTERM, terminate)  # Ray took it, to end at once
            Event().wait()
    except (KeyboardInterrupt, Terminated):
        say("stopped; accepted requests were answered")


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


@contextmanager
def _needing_packages() -> Iterator[None]:
    """Raises OptionError for a package of the service that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("grefine_rt"):
            raise
        raise OptionError(
            f"The service needs {error.name}, which is not installed: run 'pip install .[serve]' {HERE}."
        ) from None


def _token(path: Path | None) -> str | None:
    """From the file, else from the environment: never from the command line, which all users of a machine see.

    Raises OptionError for a file that cannot be read."""
    if path is None:
        return os.environ.get("GREFINE_TOKEN") or None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise OptionError(f'The token cannot be read from "{path}": {error}.') from None
    if not token:
        raise OptionError(f'The file "{path}" holds no token.')
    return token
