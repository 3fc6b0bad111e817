"""The service over real HTTP on loopback: uvicorn in a thread, on the fake bundle or another refiner."""

import base64
import io
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np
import uvicorn
from PIL import Image

from grefine_rt import Refiner
from grefine_rt.service.app import build
from grefine_rt.service.limits import ServiceLimits
from tests.support import fake_bundle

PROMPT = "a house, the sea"
ROWS = [
    ["house", "house", "sea", "sea"],
    ["house", "poor", "sea", "sea"],
    *[["house", "house", "sea", "sea"]] * 2,
]


class Slow(fake_bundle.Bundle):
    """The fake bundle, whose stage 2 waits at every step until `go` is set; `begun` is set by the first step."""

    def __init__(self):
        super().__init__()
        self.go, self.begun, self.steps = threading.Event(), threading.Event(), 0
        work = self.engines["restore_step"]._function

        def slowly(**arrays):
            self.steps += 1
            self.begun.set()
            assert self.go.wait(30)
            return work(**arrays)

        self.engines["restore_step"]._function = slowly


class Client(httpx.Client):
    """A client that knows its service: uvicorn's server and the port."""

    server: uvicorn.Server
    port: int


@contextmanager
def serving(refiner=None, limits=None, token=None, **options):
    """A client of a running service; `client.server` is uvicorn's."""
    refiner = refiner or Refiner(fake_bundle.Bundle())
    app = build(refiner, limits or ServiceLimits(), token, warm_up=False)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", **options)
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        with Client(base_url=f"http://127.0.0.1:{socket.getsockname()[1]}", timeout=60) as client:
            client.server, client.port = server, socket.getsockname()[1]
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def until(true, seconds=20):
    """Waits for something that another thread does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def png(pixels=None, **options):
    """A picture as the bytes of a PNG."""
    pixels = fake_bundle.scene(ROWS) if pixels is None else pixels
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def picture(data):
    """Pixels of an image in an answer: bytes, or base64."""
    data = base64.b64decode(data) if isinstance(data, str) else data
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def base64_of(data):
    return base64.b64encode(data).decode()
