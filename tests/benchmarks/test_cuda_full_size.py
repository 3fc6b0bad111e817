"""The script for a GPU, tried on a CPU with narrow models: both sides agree, parts are kept, failures are said."""

import importlib.util
import json

import pytest

from benchmarks import cuda_full_size, cuda_parts, roofline
from benchmarks.full_size import Shallow

NARROW = ["--device", "cpu", "--width", "0.05", "--side", "64", "--runs", "1", "--no-compile"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setitem(roofline.SIDE, "cpu", 256)
    # Narrow models of all the layers take minutes to export.
    monkeypatch.setattr(cuda_parts, "Random", Shallow)
    file = tmp_path / "cuda.json"

    def run(*more):
        code = cuda_full_size.main([*NARROW, "--json", str(file), "--graphs", str(tmp_path / "g"), *more])
        return code, json.loads(file.read_text()) if file.is_file() else {}

    return run


@pytest.mark.slow
@pytest.mark.parametrize("part", ["sdxl", "pasd"])
def test_a_stage_agrees_with_torch_and_is_not_run_again(run, part, capsys):
    code, found = run("--part", part)
    assert code == 0
    row = found[part]
    assert row["step_difference"] < 1e-3
    if part == "pasd":
        assert row["differences"]["eager"] < 1e-2
    assert row["step"]["tflop"] > 0
    assert row["share_of_peak"] == pytest.approx(row["step"]["tflops"] / row["peak_tflops"])
    assert [*row["ratios"]] == ["eager"]
    shares = [operator["share"] for operator in row["profile"]]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) <= 15
    assert 0.5 < sum(shares) <= 1.0001
    assert {"Conv", "MatMul"} & {operator["operator"] for operator in row["profile"]}
    said = capsys.readouterr().out
    assert run("--part", part) == (0, found)
    assert capsys.readouterr().out in said  # the figures alone: nothing was exported or measured


def test_what_is_missing_is_one_sentence(run, monkeypatch, capsys):
    assert run("--device", "cuda", "--part", "clip")[0] == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: Device 'cuda'")
    assert said.count("\n") == 1
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "diffusers" else real(name))
    assert run("--part", "sdxl")[0] == 1
    assert capsys.readouterr().err == (
        "Error: the package 'diffusers' is not installed: run 'pip install diffusers'.\n"
    )
