"""What a bundle will cost, told before anything is fetched."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from grefine_export.estimate import PEAKS, describe, estimate
from grefine_export.hub import Refused, Unreachable
from grefine_export.recipes import load, with_checkpoints
from tests.support.fake_hub import FakeHub

FULL_SIZE = Path(__file__).resolve().parents[2] / "docs" / "full_size.log"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")
    hub.offline = True
    return hub


def test_the_peak_of_memory_is_that_of_sdxls_step(hub):
    costs = estimate(load("sdxl-pasd"))
    assert costs.memory == 18 << 30
    assert "memory: about 18 GiB at the peak" in describe(costs, trained=False)
    alone = dataclasses.replace(load("sdxl-pasd"), inpaint=None, restore=None)
    assert estimate(alone).memory < costs.memory / 4


@pytest.mark.parametrize("stage", ["inpaint", "restore"])
def test_the_peaks_of_the_stages_are_the_measured_ones(stage):
    rows = [line.split("|")[1:-1] for line in FULL_SIZE.read_text().splitlines() if line.startswith("| ")]
    column = [name.strip() for name in rows[0]].index("peak (GiB)")
    measured = [float(row[column]) for row in rows if row[0].strip().startswith(f"{stage}_")]
    assert len(measured) == 4
    assert max(measured) <= PEAKS[stage] < max(measured) + 1


def test_what_is_there_is_taken_off(hub):
    whole = estimate(load("sdxl-pasd"))
    assert estimate(load("sdxl-pasd"), done=1_000_000_000).bundle == whole.bundle - 1_000_000_000
    assert estimate(load("sdxl-pasd"), done=10**12).bundle == 0


def test_a_hub_id_without_a_list_of_files_is_looked_at_too(hub, monkeypatch):
    """Given by the user: where the hub refuses it, no estimate comes, and no fetch of the others before."""

    def refuse(repo, **_):
        error = OSError("gated")
        error.response = SimpleNamespace(status_code=403, headers={})  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(hub, "model_info", refuse)
    recipe = with_checkpoints(load("sdxl-pasd"), {"inpaint.checkpoint": "some/model"})
    with pytest.raises(Refused, match="'hf auth login' with --"):
        estimate(recipe)
    assert issubclass(Refused, Unreachable)
