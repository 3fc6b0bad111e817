"""The demo in the browser: what its page does, and where Gradio is installed the page itself, served on loopback."""

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from grefine_rt import GRefineError, Refiner
from tests.support import fake_bundle
from tests.support.fake_bundle import scene
from tests.support.paths import ROOT
from tests.support.processes import ENVIRONMENT

APP = ROOT / "examples" / "app.py"
POOR = [
    ["house", "house", "sea", "sea"],
    ["house", "poor", "sea", "sea"],
    *[["house", "house", "sea", "sea"]] * 2,
]
PROMPT = "a house, the sea"


@pytest.fixture(scope="module")
def app():
    found = importlib.util.spec_from_file_location("app", APP)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def drawn(painted=None):
    """What the picture editor gives; painted: rows and columns of a brush stroke."""
    layer = np.zeros((128, 128, 4), np.uint8)
    if painted is not None:
        layer[painted] = 255
    background = np.dstack([scene(POOR), np.full((128, 128), 255, np.uint8)])
    return {"background": background, "layers": [layer], "composite": background}


def test_without_gradio_the_command_that_mends_it_is_told(app, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match=r"pip install '\.\[cpu,demo\]'"):
        app.build(Refiner(fake_bundle.Bundle()))


def test_assessing_gives_map_mask_phrases_and_reasons(app):
    heat, mask, rows, told = app.assess(Refiner(fake_bundle.Bundle()), drawn(), PROMPT, "perceptual")
    assert heat.size == mask.size == (128, 128)
    assert np.asarray(mask)[40:56, 40:56].min() == 255
    assert [row[0] for row in rows] == ["a house", "the sea"]
    assert told.startswith("**perceptual 0.")


def test_only_what_was_painted_is_redrawn(app):
    stroke = np.s_[64:96, 64:96]
    steps = []
    (before, after), told = app.refine(
        Refiner(fake_bundle.Bundle()), drawn(stroke), PROMPT, "", 3.0, True, lambda *step: steps.append(step)
    )
    changed = (np.asarray(before) != np.asarray(after)).any(axis=2)
    assert changed[stroke].any()
    changed[stroke] = False
    assert not changed.any()
    assert "alignment" in told
    assert steps[-1][0] == "assess_after"


@pytest.mark.parametrize("nothing", [None, {"background": None, "layers": []}])
def test_without_a_picture_it_says_so(app, nothing):
    with pytest.raises(GRefineError, match="no picture"):
        app.parts(nothing)


def test_the_page_is_served_and_answers(tmp_path):
    pytest.importorskip(
        "gradio", reason="pip install '.[demo]' brings it; its Pillow is not that of constraints.txt"
    )
    from gradio_client import Client, handle_file

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = ENVIRONMENT | {"GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen([sys.executable, str(APP), "--port", str(port), "--device", "cpu"], env=quiet)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(address) as answer:
                    assert b"grefine-rt" in answer.read()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.5)
        path = ROOT / "examples" / "broken_shape.png"
        picture = {"background": handle_file(str(path)), "layers": [], "composite": None}
        client = Client(address, verbose=False, download_files=str(tmp_path))
        asked = path.with_suffix(".txt").read_text()
        _, _, phrases, told = client.predict(picture, asked, "perceptual", api_name="/assess")
        assert "**perceptual" in told
        assert phrases["data"]
        _, told = client.predict(picture, asked, "", 0, False, api_name="/refine")
        assert "→" in told
        with pytest.raises(Exception, match="no picture"):
            client.predict(None, asked, "perceptual", api_name="/assess")
    finally:
        process.terminate()
        process.wait(30)
