"""The bookkeeping of the full-size run; what it measures takes long."""

import json

import pytest

from benchmarks import full_size

EXPORTED = {
    "parameters": 2_567_500_000,
    "precision": "fp16",
    "export_s": 572.0,
    "export_peak_gib": 15.5,
    "file_gib": 4.78,
    "error": 4.8e-4,
}
RAN = {"load_s": 50.0, "run_s": 30.25, "run_peak_gib": 11.6, "outputs": {}}


@pytest.fixture
def calls(monkeypatch):
    """Names of the work done, in order; none of it is done."""
    calls = []

    def alone(work, component, *_):
        calls.append((work.__name__, component))
        return EXPORTED if work is full_size.export_one else RAN

    monkeypatch.setattr(full_size, "_alone", alone)
    return calls


def test_a_component_that_is_done_is_not_made_again(calls, tmp_path, capsys):
    arguments = ["inpaint", "restore", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "f.json")]
    assert full_size.main(arguments) == 0
    assert calls == [
        (work, name) for name in ("inpaint_step", "restore_step") for work in ("export_one", "run_one")
    ]
    first = capsys.readouterr().out
    (tmp_path / "out" / "restore_step.record.json").unlink()
    calls.clear()
    assert full_size.main(arguments) == 0
    assert calls == [("export_one", "restore_step"), ("run_one", "restore_step")]
    assert capsys.readouterr().out == first
    records = json.loads((tmp_path / "f.json").read_text())
    assert [one["component"] for one in records] == ["inpaint_step", "restore_step"]
    lines = first.splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {11}
    assert (
        "| inpaint_step | 2.5675 | fp16 | 572.00 | 15.50 | 4.78 | 4.8e-04 | 50.00 | 30.25 | 11.60 |" in lines
    )


def test_every_component_of_both_stages_is_in_a_group(calls, tmp_path):
    assert full_size.main(["--out", str(tmp_path)]) == 0
    parts = ("text", "encode", "step", "decode")
    assert {name for _, name in calls} == {
        f"{stage}_{part}" for stage in ("inpaint", "restore") for part in parts
    }


def test_failures_are_one_line(monkeypatch, tmp_path, capsys):
    def alone(work, component, *_):
        raise ValueError("'next' is not finite")

    monkeypatch.setattr(full_size, "_alone", alone)
    assert full_size.main(["inpaint", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "Error: inpaint_step: 'next' is not finite\n"
    with pytest.raises(SystemExit) as wrong:
        full_size.main(["unet", "--out", str(tmp_path)])
    assert wrong.value.code == 2
