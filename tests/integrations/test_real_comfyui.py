"""The nodes in ComfyUI itself, for those who have it: COMFYUI=FOLDER pytest tests/integrations/test_real_comfyui.py.

FOLDER is a checkout of ComfyUI whose requirements this Python has. It is started on loopback with a folder of its own
for custom nodes, pictures and results, and asked through its HTTP interface, as its page does.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grefine_rt import Refiner
from tests.support.paths import MINI, ROOT

COMFYUI = os.environ.get("COMFYUI", "")
pytestmark = pytest.mark.skipif(not COMFYUI, reason="COMFYUI names no checkout of ComfyUI")
PICTURE = ROOT / "examples" / "broken_shape.png"
PROMPT = PICTURE.with_suffix(".txt").read_text().strip()
SECONDS = float(os.environ.get("COMFYUI_SECONDS", "300"))
"""For a start or a workflow."""


class Server:
    """ComfyUI on a free port, its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        for name in ("custom_nodes", "input", "output", "user", "temp"):
            (folder / name).mkdir()
        (folder / "custom_nodes" / "grefine-rt").symlink_to(ROOT / "integrations" / "comfyui")
        shutil.copy(PICTURE, folder / "input" / "picture.png")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.output, self.log = folder / "output", folder / "log.txt"
        options = (
            "--cpu",
            "--listen",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--base-directory",
            str(folder),
        )
        more = ("--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:")
        self.process = subprocess.Popen(
            [sys.executable, "main.py", *options, *more],
            cwd=COMFYUI,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        self.until(lambda: self.ask("system_stats"), "it serves")

    def ask(self, what: str, body: object = None) -> dict:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{what}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def until(self, found, what: str):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if value := found():
                    return value
            except OSError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"Not within {SECONDS:g} s: {what}\n{self.log.read_text()[-3000:]}")

    def done(self, workflow: dict) -> dict:
        """The history of a workflow that has ended."""
        number = self.ask("prompt", {"prompt": workflow})["prompt_id"]
        return self.until(lambda: self.ask(f"history/{number}").get(number), "the workflow is done")

    def picture(self, name: str) -> np.ndarray:
        with Image.open(self.output / f"{name}_00001_.png") as image:
            return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("comfyui"))
    yield server
    server.process.terminate()
    server.process.wait(30)


def node(kind: str, **inputs: object) -> dict:
    return {"class_type": kind, "inputs": inputs}


CHOSEN = {"bundle": str(MINI), "device": "cpu"}


def test_the_nodes_are_on_its_menu(server):
    for name, inputs in {
        "GRefineAssess": ("image", "prompt", "map", "overlay", "bundle", "device"),
        "GRefinePlan": ("image", "prompt", "bundle", "device"),
        "GRefineRefine": ("image", "prompt", "seed", "bundle", "device"),
    }.items():
        told = server.ask(f"object_info/{name}")[name]
        assert told["category"] == "grefine-rt"
        assert tuple(told["input"]["required"]) == inputs


def test_a_workflow_gives_the_pictures_of_the_library(server):
    workflow = {
        "1": node("LoadImage", image="picture.png"),
        "2": node("GRefineAssess", image=["1", 0], prompt=PROMPT, map="perceptual", overlay=True, **CHOSEN),
        "3": node("GRefinePlan", image=["1", 0], prompt=PROMPT, **CHOSEN),
        "4": node("GRefineRefine", image=["1", 0], prompt="", seed=7, plan=["3", 0], **CHOSEN),
        "5": node("MaskToImage", mask=["4", 1]),
        "6": node("SaveImage", images=["2", 0], filename_prefix="heat"),
        "7": node("SaveImage", images=["4", 0], filename_prefix="refined"),
        "8": node("SaveImage", images=["5", 0], filename_prefix="mask"),
    }
    assert server.done(workflow)["status"]["status_str"] == "success"
    with Refiner.load(MINI, "cpu") as refiner:
        result = refiner.refine(PICTURE, PROMPT, 7)
    assert (server.picture("refined") == np.asarray(result.image)).all()
    assert (server.picture("mask")[..., 0] == 255 * result.plan.mask).all()
    heat = np.asarray(result.before.heat_map("perceptual", PICTURE))
    assert np.abs(server.picture("heat").astype(int) - heat).max() <= 1


def test_what_is_wrong_is_our_sentence(server):
    workflow = {
        "1": node("LoadImage", image="picture.png"),
        "2": node("GRefineRefine", image=["1", 0], prompt="  ", seed=7, **CHOSEN),
        "3": node("SaveImage", images=["2", 0], filename_prefix="never"),
    }
    status = server.done(workflow)["status"]
    assert status["status_str"] == "error"
    said = next(told for kind, told in status["messages"] if kind == "execution_error")
    assert "prompt is empty" in said["exception_message"]
    assert said["node_type"] == "GRefineRefine"
