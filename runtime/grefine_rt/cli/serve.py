"""`grefine-rt serve`: the HTTP service."""

import os
from pathlib import Path
from typing import Annotated

import typer

from grefine_rt.cli import options as shared

_LIMITS = "Limits of a request"


def serve(
    bundle: shared.Bundle = "mini",
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine only with a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8642,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Holds the token that clients must send as Authorization: Bearer. Default: $GREFINE_TOKEN.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Requests that run at the same time.")] = 1,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; others get 429.")] = 16,
    max_mib: Annotated[float, typer.Option(min=0.01, help="MiB of a body.", rich_help_panel=_LIMITS)] = 32,
    max_megapixels: Annotated[
        float, typer.Option(min=0.01, help="Million pixels of a picture.", rich_help_panel=_LIMITS)
    ] = 16,
    max_prompt: Annotated[int, typer.Option(min=1, help="Characters.", rich_help_panel=_LIMITS)] = 4000,
    time_limit: Annotated[
        float,
        typer.Option(min=1, help="Seconds until the answer, waiting included.", rich_help_panel=_LIMITS),
    ] = 300,
    warm_up: Annotated[bool, typer.Option(help="Load every model before the first request.")] = True,
) -> None:
    """Refine and assess over HTTP, with a page at / for people. Ctrl-C or SIGTERM: accepted requests finish first.

    Example: grefine-rt serve --port 8642
    """
    from grefine_rt.cli.output import Terminated, say, status

    status("Starting the service")
    from grefine_rt.errors import HERE, OptionError
    from grefine_rt.service.limits import ServiceLimits, check_exposure

    try:
        import uvicorn

        from grefine_rt.service.app import build
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("grefine_rt"):
            raise
        raise OptionError(
            f"The service needs {error.name}, which is not installed: run 'pip install .[serve]' {HERE}."
        ) from None
    from grefine_rt import Refiner

    token = _token(token_file)
    check_exposure(host, token)
    limits = ServiceLimits(
        body_bytes=int(max_mib * 2**20),
        pixels=int(max_megapixels * 1e6),
        prompt=max_prompt,
        seconds=time_limit,
        waiting=queue,
        workers=workers,
    )
    with Refiner.load(bundle, device, threads) as refiner:
        app = build(refiner, limits, token, warm_up)
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=5,
            limit_concurrency=8 * limits.uploads,
        )
        server = uvicorn.Server(config)
        sockets = [config.bind_socket()]
        where = sockets[0].getsockname()[1]
        say(f"grefine-rt serves http://{f'[{host}]' if ':' in host else host}:{where}/")
        try:
            server.run(sockets=sockets)
        except (KeyboardInterrupt, Terminated):
            say("stopped; accepted requests were answered")


def _token(path: Path | None) -> str | None:
    """From the file, else from the environment: never from the command line, which all users of a machine see.

    Raises OptionError for a file that cannot be read."""
    from grefine_rt.errors import OptionError

    if path is None:
        return os.environ.get("GREFINE_TOKEN") or None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise OptionError(f'The token cannot be read from "{path}": {error}.') from None
    if not token:
        raise OptionError(f'The file "{path}" holds no token.')
    return token
