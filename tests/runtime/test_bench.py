"""`grefine-rt bench`: what it measures, its JSON, the comparison of two results, and bad requests."""

import json
import subprocess
import sys

import numpy as np
import pytest

from grefine_rt import Refiner, bench, system_memory
from grefine_rt.errors import GRefineError, OptionError


@pytest.fixture(scope="module")
def result(mini):
    return bench.measure(Refiner.load("mini", "cpu", 1), runs=2)


def test_every_graph_of_the_bundle_is_timed_once(result):
    files = Refiner.load("mini", "cpu", 1).bundle.manifest.components
    assert sorted({files[name] for name in result["components"]}) == sorted(set(files.values()))
    assert len(result["components"]) == len(set(files.values()))
    assert result["load"].keys() == result["components"].keys()
    for row in (*result["components"].values(), result["refine"]):
        assert 0 < row["median"] <= row["p95"]
        assert row["runs"] == 2


@pytest.mark.timing
def test_parts_add_up_to_the_whole(result):
    assert result["parts"].keys() == {
        *("load", "assess_before", "plan", "regenerate", "restore", "assess_after"),
    }
    assert sum(result["parts"].values()) == pytest.approx(result["refine"]["median"], rel=0.3)
    assert result["parts"]["regenerate"] > 0
    assert result["parts"]["restore"] > 0
    assert 0 <= result["outside_engines"] < 0.5
    assert result["images_per_minute"] == pytest.approx(60_000 / result["refine"]["median"])


def test_the_machine_is_on_record(result):
    assert result["machine"]["cores"] >= 1
    assert {"grefine-rt", "python", "numpy"} <= result["machine"]["versions"].keys()
    assert result["bundle"]["name"] == "mini"
    assert result["memory"]["host_peak_mb"] > 20
    json.dumps(result, allow_nan=False)


def test_the_work_is_the_same_whatever_the_models_think():
    assert bench.middle(64).sum() == 64 * 64 // 4
    assert np.array_equal(bench.picture(64), bench.picture(64))
    assert bench.picture(64).std() > 20


def test_a_cold_start_is_a_process_of_its_own(mini):
    found = bench.cold_start("mini", "cpu", 2, 128)
    assert 0 < found["import_s"] < found["assess_s"] < found["refine_s"]
    assert 20 < found["host_peak_mb"] < 400
    with pytest.raises(GRefineError, match="cold start failed: No bundle 'none'"):
        bench.cold_start("none", "cpu", 1, 128)


def test_memory_that_is_held_is_told(tmp_path):
    # In a process of its own: this one gives memory back whenever it likes.
    code = (
        "import numpy as np; from grefine_rt.system_memory import peak_memory, resident_memory; "
        "before = resident_memory(); grown = np.ones(40_000_000, np.uint8); "
        "print(before, resident_memory(), peak_memory())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after, peak = map(int, told.split())
    assert before + 36e6 < after <= peak
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("VmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
    assert system_memory.resident_memory(tmp_path) == 2**20
    assert system_memory.peak_memory(tmp_path) == 2**21


def test_without_the_system_s_record_the_peak_is_asked_of_the_library(tmp_path):
    assert system_memory.resident_memory(tmp_path) is None
    assert system_memory.peak_memory(tmp_path) > 20e6


def test_the_peak_of_a_device_is_what_it_had_more_in_use_than_before(mini, monkeypatch):
    used, refiner = [10 * 10**6], Refiner.load("mini", "cpu", 1)
    gpu = lambda: bench.nvidia.Gpu("Pretended", "1", 10**9, used[0])  # type: ignore[attr-defined]  # noqa: E731
    monkeypatch.setattr(bench.nvidia, "gpus", lambda: (gpu(),))  # type: ignore[attr-defined]
    refine = bench._refine

    def work(*arguments):
        used[0] = 70 * 10**6
        try:
            return refine(*arguments)
        finally:
            used[0] = 30 * 10**6

    monkeypatch.setattr(bench, "_refine", work)
    assert bench.measure(refiner, 64, runs=2)["memory"]["device_peak_mb"] is None  # it ran on the CPU
    monkeypatch.setattr(refiner.bundle.engine("perceptual"), "device", "cuda:0")
    used[0] = 10 * 10**6
    assert bench.measure(refiner, 64, runs=2)["memory"]["device_peak_mb"] == 60
    monkeypatch.setattr(bench.nvidia, "gpus", lambda: (gpu(), gpu()))  # type: ignore[attr-defined]  # which of them is not known
    assert bench.measure(refiner, 64, runs=2)["memory"]["device_peak_mb"] is None
    with pytest.raises(ZeroDivisionError):
        bench.device_peak(lambda: 1 / 0)


def test_two_results_are_compared(result, run, tmp_path):
    slower = json.loads(json.dumps(result))
    slower["refine"]["median"] *= 2
    for name, content in (("a", result), ("b", slower)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    done = run("bench", "--compare", tmp_path / "a.json", tmp_path / "b.json", "--json")
    found = json.loads(done.stdout)
    assert found["refine, median (ms)"]["ratio"] == pytest.approx(2)
    assert found["refine, p95 (ms)"]["ratio"] == pytest.approx(1)
    assert {"outside of engines (%)", "images per minute", "memory, host_peak_mb"} <= found.keys()
    assert "memory, device_peak_mb" not in found  # there was no device
    assert done.stderr == ""
    assert "B / A" in run("bench", "--compare", tmp_path / "a.json", tmp_path / "b.json").stdout


def test_results_of_other_machines_are_said_to_be(result, run, tmp_path):
    other = json.loads(json.dumps(result))
    other["machine"]["versions"]["onnxruntime"] = "1.0"
    other["backends"]["perceptual"] = "tensorrt"
    for name, content in (("a", result), ("b", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    told = run("bench", "--compare", tmp_path / "a.json", tmp_path / "b.json").stderr
    assert "note: backends differs: A has onnxruntime-cpu, B has onnxruntime-cpu, tensorrt" in told
    assert "note: onnxruntime differs: A has" in told
    assert told.count("\n") == 2


def test_what_is_no_result_is_one_line(run, tmp_path):
    (tmp_path / "a.json").write_text("[]")
    for name in ("a.json", "none.json"):
        done = run("bench", "--compare", tmp_path / name, tmp_path / name)
        assert done.exit_code == 2
        assert "is no result of" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("options", "sentence"), [({"runs": 1}, "runs"), ({"resolution": 8}, "resolution")])
def test_impossible_requests(mini, options, sentence):
    with pytest.raises(OptionError, match=sentence):
        bench.measure(Refiner.load("mini", "cpu", 1), **options)
