"""The frame of every request: its permission, the form of refusals, and counting."""

from __future__ import annotations

import hmac
import json
import time
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grefine_rt.service.limits import Refused, is_loopback
from grefine_rt.service.metrics import Metrics

OPEN = ("/", "/page.css", "/page.js", "/v1/health", "/v1/ready", "/v1/openapi.json")
"""Paths that need no token: they say nothing of pictures and start no work."""

_SAFE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; "
    b"form-action 'none'; base-uri 'none'",
}


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """In ASCII, so that halves of characters that a client sent travel back as they came."""
    return Response(json.dumps(value, allow_nan=False), status, headers, "application/json")


def refused_response(refused: Refused) -> Response:
    headers = {}
    if refused.retry_after is not None:
        headers["retry-after"] = str(refused.retry_after)
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refused.status in (408, 413):
        headers["connection"] = "close"  # the rest of the body is not read
    error = {"reason": refused.reason, "message": refused.message}
    return json_response({"error": error}, refused.status, headers)


class Guard:
    """An ASGI application around another one: it checks who asks, and counts every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, token: str | None, paths: frozenset[str]) -> None:
        """paths: counted by name; all others are counted together."""
        self._app, self._metrics, self._paths = app, metrics, paths
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_SAFE.items()]
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, tell)
        except Refused as refused:
            self._metrics.refused(refused.reason)
            await refused_response(refused)(scope, receive, tell)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            # Nothing was sent: Ray Serve cancels the call of a client that left, where uvicorn tells it.
            self._metrics.answered(path, status or 499, time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        """Raises Refused 401 without the token; without any token set, 403 for requests of another site's page."""
        headers = dict(scope["headers"])
        if self._token is not None:
            if scope["path"] in OPEN:
                return
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            if kind.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
                raise Refused(401, "token", "Send the token: Authorization: Bearer TOKEN.")
            return
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not is_loopback(_name_of(host)) or (origin and origin.rpartition("//")[2] != host):
            raise Refused(403, "origin", "Pages of other sites may not ask this service.")


def _name_of(host: str) -> str:
    """The header Host without its port."""
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host
