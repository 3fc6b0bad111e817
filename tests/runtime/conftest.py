"""What tests of the command share: a runner in this process on the fake bundle, and the embedded bundle."""

import os

import pytest
from typer.testing import CliRunner

from grefine_rt import Assessor, Refiner
from grefine_rt.cli import app
from tests.support import fake_bundle, tiny
from tests.support.paths import MINI
from tests.support.tiny_bundle import TinyBundle


@pytest.fixture
def fake(monkeypatch):
    """`Refiner.load` and `Assessor.load` give this bundle; its attribute `loaded` lists the arguments of each call."""
    bundle = fake_bundle.Bundle()
    bundle.loaded = []  # type: ignore[attr-defined]

    for kind in (Refiner, Assessor):

        def load(name="mini", device="auto", threads=None, cuda_graphs=False, kind=kind):
            bundle.loaded.append((name, device, threads, *["cuda-graphs"] * cuda_graphs))  # type: ignore[attr-defined]
            return kind(bundle)

        monkeypatch.setattr(kind, "load", load)
    return bundle


@pytest.fixture
def run():
    """Runs the command in this process: run("refine", path, ...) gives exit_code, stdout and stderr."""

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def mini():
    """The folder of the embedded bundle."""
    if not (MINI / "bundle.json").is_file():
        if os.environ.get("CI"):
            pytest.fail(f"the embedded bundle is missing: {MINI}")
        pytest.skip("the embedded bundle is not trained yet")
    return MINI


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The tiny bundle, opened."""
    folder = tiny.bundle(tmp_path_factory.mktemp("tiny"))
    return TinyBundle.open(folder, "cpu", threads=1)
