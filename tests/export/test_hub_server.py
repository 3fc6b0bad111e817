"""Downloads from a hub that speaks HTTP: resumed at their byte, refused with what to do, patient where it says to wait.

The hub is a server in this process; its clients are processes of their own, which can be killed.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from grefine_export.hub.resume import told_to_wait

SIZE = 4_000_000
COMMIT = "1" * 40
WEIGHTS = bytes(range(256)) * (SIZE // 256)
FILES = {"w.safetensors": WEIGHTS, "config.json": b'{"a": 1}'}


class Server(ThreadingHTTPServer):
    """A hub. ranges: size of each file that was asked for and the first byte. asked: when, by owner. stop_at: bytes of
    the weights after which the line goes silent, until `go_on`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[tuple[int, int]] = []
        self.asked: dict[str, float] = {}
        self.stop_at: int | None = None
        self.go_on = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """What huggingface_hub asks of a hub."""

    server: Server

    def log_message(self, *_):
        pass

    def _answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refused(self):
        owner = self.path.removeprefix("/api/models").strip("/").split("/")[0]
        if owner.isdecimal():
            self._answer(int(owner))
        elif owner == "busy" and not self.server.asked.get(owner):
            self.server.asked[owner] = time.monotonic()
            self._answer(429, Retry_After="2")
        else:
            return False
        return True

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self._refused():
            return
        if self.path.startswith("/api/"):
            siblings, tree = [], []
            for name, data in FILES.items():
                sha, size = hashlib.sha256(data).hexdigest(), len(data)
                lfs = {"sha256": sha, "oid": sha, "size": size, "pointerSize": 1} if size > 100 else None
                siblings.append({"rfilename": name, "size": size, "blobId": sha[:40], "lfs": lfs})
                entry = {"type": "file", "path": name, "size": size, "oid": sha[:40]}
                tree.append(entry | ({"lfs": lfs} if lfs else {}))
            about = {"id": "o/n", "modelId": "o/n", "sha": COMMIT, "siblings": siblings}
            answer = json.dumps(tree if "/tree/" in self.path else about).encode()
            self._answer(200, answer, Content_Type="application/json")
            return
        data = FILES[self.path.rpartition("/")[2].partition("?")[0]]
        self._file(data)

    def _file(self, data):
        first = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        if self.command == "GET":
            self.server.ranges.append((len(data), first))
        self.send_response(206 if self.headers.get("Range") else 200)
        sha = hashlib.sha256(data).hexdigest()
        self.send_header("ETag", f'"{sha if len(data) > 100 else sha[:40]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if self.headers.get("Range"):
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = self.server.stop_at if len(data) == SIZE else None
        self.wfile.write(data[first:stop])
        if stop is not None:
            self.wfile.flush()
            self.server.go_on.wait(60)


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.go_on.set()
    server.shutdown()


@pytest.fixture
def start(server, tmp_path):
    """Start a Python process whose hub is the server, with a cache of its own."""

    def started(*arguments):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return started


FETCH = "from grefine_export.hub import fetch; print(fetch('o/n', None, ['w.safetensors', 'config.json']))"


def test_a_killed_download_goes_on_at_its_byte(server, start, tmp_path):
    """Killed at 40 %: the second run asks for the rest alone, and what comes out is the file."""
    server.stop_at = SIZE * 2 // 5
    process = start("-c", FETCH)
    part = tmp_path / f"hf/hub/models--o--n/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}.part"
    until = time.monotonic() + 120
    while not (part.is_file() and part.stat().st_size >= server.stop_at):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert part.stat().st_size == server.stop_at
    stale = part.with_name("0" * 64 + ".part")
    other = part.with_name("abc.incomplete")
    for old in (stale, other):
        old.write_bytes(b"x")
        os.utime(old, (0, 0))
    asked, server.stop_at = len(server.ranges), None
    output, _ = start("-c", FETCH).communicate(timeout=120)
    folder = output.strip().splitlines()[-1]
    assert (tmp_path / "hf" / "hub") in Path(folder).parents, output
    assert (Path(folder) / "w.safetensors").read_bytes() == WEIGHTS
    assert [first for size, first in server.ranges[asked:] if size == SIZE] == [SIZE * 2 // 5]
    assert not any(file.exists() for file in (part, stale, other))
    assert "2 MB of 4 MB to fetch" in output  # 2.4 of 4.0


REFUSALS = """
from grefine_export.hub import Refused, fetch, listing
for repo, revision in (("401/n", None), ("403/n", None), ("404/n", "v9")):
    try:
        fetch(repo, revision, ["config.json"])
    except Refused as error:
        print(error)
print([file.name for file in listing("busy/n", None, ["*.json"])])
"""


def test_refusals_say_what_to_do_and_a_busy_hub_is_waited_for(server, start):
    output, _ = start("-c", REFUSALS).communicate(timeout=120)
    first, second, third, found = output.strip().splitlines()
    for repo, line in (("401/n", first), ("403/n", second)):
        assert f"https://huggingface.co/{repo}" in line
        assert "accept its licence" in line
        assert "'hf auth login'" in line
    assert third == (
        "the hub has no model '404/n' at the revision 'v9': mend the name or the revision, or give a local folder"
    )
    assert found == "['config.json']"
    assert time.monotonic() - server.asked["busy"] >= 2


def test_a_dry_run_fails_on_a_refusal(start, tmp_path):
    """The listing is looked at before anything is fetched, also of a hub id that the user gives."""
    out = tmp_path / "bundle"
    arguments = (
        "-c",
        "from grefine_export.cli import main; main()",
        "bundle",
        "sdxl-pasd",
        "--out",
        str(out),
        "--dry-run",
    )
    process = start(*arguments, "--clip", "403/n")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "'hf auth login' with --clip" in output
    assert not out.exists()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "7"}, 7), ({"ratelimit": '"api";r=0;t=12'}, 12), ({}, 5), ({"retry-after": "-3"}, 0)],
)
def test_how_long_to_wait(headers, seconds):
    assert told_to_wait(headers) == seconds


def test_a_date_to_wait_for():
    from email.utils import formatdate

    assert 20 < told_to_wait({"retry-after": formatdate(time.time() + 30, usegmt=True)}) <= 31
