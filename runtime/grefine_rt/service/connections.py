"""Connections on which no whole head of a request comes: they are closed, for each holds a place of the service."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_Base: Any = AutoHTTPProtocol


def protocol(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which closes a connection where a request's head takes more than `seconds`.

    uvicorn itself bounds the time between two requests alone, neither that before the first one nor that of a head.
    """

    class Watched(_Base):  # type: ignore[misc]  # uvicorn takes the fastest that is installed
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, error: Exception | None) -> None:
            self._stop()
            super().connection_lost(error)

        def _waits(self) -> bool:
            """Whether no request is being read or answered."""
            return self.cycle is None or bool(self.cycle.response_complete)

        def _watch(self) -> None:
            if not self._waits():
                self._stop()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._give_up)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if self._waits():
                self.transport.close()

    return Watched
