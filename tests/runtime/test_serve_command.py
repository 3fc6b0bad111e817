"""`grefine-rt serve` as a process: what it refuses, and how it ends."""

import os
import re
import signal
import socket
import sys
import threading

import httpx
import pytest

from grefine_rt.errors import OptionError
from tests.support.processes import SLOW, finish, start
from tests.support.service import PROMPT, png


def test_it_does_not_listen_to_other_machines_without_a_token(run, fake, tmp_path, monkeypatch):
    monkeypatch.delenv("GREFINE_TOKEN", raising=False)
    done = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.exit_code == 2
    assert "--token-file" in done.stderr
    empty = tmp_path / "token"
    empty.write_text("\n")
    assert "holds no token" in run("serve", "--token-file", empty).stderr
    assert run("serve", "--token-file", tmp_path / "none").exit_code == 2
    assert not fake.loaded


def test_an_address_that_cannot_be_had_is_one_sentence(run, fake):
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = run("serve", "--port", other.getsockname()[1])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "already in use" in done.stderr
    assert "--port" in done.stderr
    assert not fake.loaded


def test_a_missing_package_is_one_sentence(run, fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = run("serve")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert ".[serve]" in done.stderr


def test_ray_is_asked_for_in_full_and_told_where_it_is_missing(run, fake, monkeypatch):
    for name in ("GREFINE_TOKEN", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for option in (("--address", "auto"), ("--replicas", 2)):
        done = run("serve", *option)
        assert (done.exit_code, "--engine ray" in done.stderr) == (2, True)
    done = run("serve", "--engine", "ray", "--address", "auto")
    assert (done.exit_code, "--token-file" in done.stderr) == (2, True)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("serve", "--engine", "ray")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert ".[ray]" in done.stderr
    assert not fake.loaded


def test_limits_are_checked():
    from grefine_rt.service.limits import ServiceLimits

    with pytest.raises(OptionError, match="pixels"):
        ServiceLimits(pixels=0)
    with pytest.raises(OptionError, match="together"):
        ServiceLimits(together=0)
    with pytest.raises(OptionError, match="waiting"):
        ServiceLimits(waiting=-1)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_sigterm_lets_an_accepted_request_finish():
    process = start("serve", "--port", "0", "--no-warm-up", program=("-c", SLOW))
    try:
        port = re.search(r"127\.0\.0\.1:(\d+)", process.stderr.readline()).group(1)
        answers = []

        def ask():
            address = f"http://127.0.0.1:{port}/v1/refine"
            answers.append(httpx.post(address, files={"image": png()}, data={"prompt": PROMPT}, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        assert process.stderr.readline() == "step\n"
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        code, _, stderr = finish(process)
    finally:
        process.kill()
    assert answers[0].status_code == 200
    assert code == 0
    assert "Traceback" not in stderr
