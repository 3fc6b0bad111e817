"""Guidance passes side by side: the numbers of one run of two rows."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from grefine_rt import Refiner
from grefine_rt.contract import Schedule, advance
from grefine_rt.diffusion.solver import step_table
from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.engine.passes import SidePasses, splits
from grefine_rt.errors import BundleError, DeviceError
from grefine_rt.models import selection
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.selection import Selection, step_rows
from grefine_rt.models.warm_up import example_inputs
from tests.support import tiny


def opened(threads):
    return type(Bundle.open("mini", "cpu", threads).engine("inpaint_step"))


@pytest.fixture(scope="module")
def pair():
    """The embedded step with passes side by side, and in one run on as many threads."""
    bundle = Bundle.open("mini", "cpu", 2)
    whole = OnnxEngine(bundle.folder / bundle.manifest.components["inpaint_step"], "cpu", 2)
    return bundle.engine("inpaint_step"), whole


def inputs(engine, rows=2, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"n": rows, "L": 9, "l": 9, "h": 16, "w": 24}
    arrays = {
        name: rng.standard_normal([sizes.get(axis, axis) for axis in spec.shape]).astype(np.float32)
        for name, spec in engine.inputs.items()
    }
    row = [0.9, 1.1, -0.4, 0.7, 0.3, -0.2, 0.1, 2.5, 0.0]
    return arrays | {"timestep": np.array([421], np.float32), "coefficients": np.array(row, np.float32)}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("solver", ["euler", "ddim", "dpm++2m", "lcm"])
def test_both_passes_give_the_bits_of_one_run(pair, solver, rows):
    beside, whole = pair
    assert (type(beside), type(whole)) == (SidePasses, OnnxEngine)
    steps = step_table(Schedule(1000, 0.00085, 0.012, "leading", 1), solver, 4, guidance=2.5)
    width = whole.inputs["coefficients"].shape[0]
    for number, row in enumerate(steps.coefficients):
        arrays = inputs(whole, rows, number) | {"coefficients": row[:width]}
        got, expected = beside.run(arrays), whole.run(arrays)
        assert got.keys() == expected.keys() == {"next", "clean"}
        for name in got:
            np.testing.assert_array_equal(got[name], expected[name])


def test_a_loop_gives_the_bits_of_one_run(pair):
    results = []
    for engine in pair:
        binding = engine.bind()
        for name, array in inputs(engine).items():
            binding.set_input(name, binding.upload(array))
        made = binding.buffer((1, 4, 16, 24))
        binding.set_output("next", made)
        binding.run()
        results.append(binding.fetch(made))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("blended", [False, True])
def test_the_update_is_that_of_architecture_md(rescale, blended):
    rng = np.random.default_rng(1)
    names = ("negative", "positive", "sample", "previous", "noise", "original", "original_noise")
    at = {name: rng.standard_normal((1, 4, 6, 5)).astype(np.float32) for name in names}
    at["mask"] = (rng.random((1, 1, 6, 5)) < 0.5).astype(np.float32)
    row = rng.standard_normal(11).astype(np.float32)
    row[7:9] = 3.5, rescale
    exact = {name: value.astype(np.float64) for name, value in at.items()}
    factors = row.astype(np.float64)
    model = exact["negative"] + factors[7] * (exact["positive"] - exact["negative"])
    model = model * (1 + factors[8] * (exact["positive"].std() / model.std() - 1))
    clean = factors[1] * exact["sample"] + factors[2] * model
    following = (
        factors[3] * exact["sample"] + factors[4] * clean + factors[5] * exact["previous"]
    ) + factors[6] * exact["noise"]
    if blended:
        outside = factors[9] * exact["original"] + factors[10] * exact["original_noise"]
        following = exact["mask"] * following + (1 - exact["mask"]) * outside
    given = {
        name: value for name, value in at.items() if blended or name not in ("original", "original_noise")
    }
    got = advance(at["negative"], at["positive"], row if blended else row[:9], given)
    np.testing.assert_allclose(got["clean"], clean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got["next"], following, rtol=1e-5, atol=1e-5)
    assert got["next"].dtype == np.float32


# When


def test_two_threads_split_a_guided_step_and_no_other_number_does(monkeypatch):
    assert [opened(threads) for threads in (1, 2, 3, 4)] == [OnnxEngine, SidePasses, OnnxEngine, OnnxEngine]
    for count, kind in ((2, SidePasses), (8, OnnxEngine)):
        monkeypatch.setattr(selection, "cores", lambda count=count: count)
        assert opened(None) is kind
    unguided = Bundle.open("mini", "cpu", 2)
    assert unguided.manifest.restore.guidance == 1
    assert type(unguided.engine("restore_step")) is OnnxEngine


@pytest.mark.parametrize("lacking", ["clean", "free rows"])
def test_a_graph_that_cannot_be_split_is_run_whole(tmp_path, lacking):
    graph = tiny.step(tiny.INPAINT)
    assert splits(_loaded(graph, tmp_path))
    if lacking == "clean":
        del graph.graph.output[1]
    else:
        pooled = next(value for value in graph.graph.input if value.name == "pooled")
        pooled.type.tensor_type.shape.dim[0].dim_value = 2
    assert not splits(_loaded(graph, tmp_path))


def _loaded(graph, folder):
    onnx.save(graph, folder / "step.onnx")
    return OnnxEngine(folder / "step.onnx", threads=1)


def test_a_bundle_that_is_not_guided_throughout_runs_as_before_and_is_warmed_up_with_both(monkeypatch):
    whole = Bundle.open("mini", "cpu", 2)
    inpaint = dataclasses.replace(whole.manifest.inpaint, interval=(0.0, 0.5))  # type: ignore[type-var]
    manifest = dataclasses.replace(whole.manifest, inpaint=inpaint)
    bundle = Bundle(whole.folder, manifest, Selection(whole.folder, manifest, "cpu", 2))
    step, run, rows = bundle.engine("inpaint_step"), OnnxEngine.run, []
    assert type(step) is OnnxEngine

    def noting(engine, arrays, outputs=None):
        if engine is step:
            rows.append(len(arrays["context"]))
        return run(engine, arrays, outputs)

    monkeypatch.setattr(OnnxEngine, "run", noting)
    Refiner(bundle).warm_up()
    assert rows == [2, 1]


def test_a_run_of_one_row_is_one_run():
    single = Slow()
    SidePasses("step", single).run(ARRAYS | {"context": ARRAYS["context"][:1]}, ["clean"])
    assert single.threads == [threading.current_thread().name]


def test_a_warm_refiner_has_loaded_what_its_bundle_asks_for(monkeypatch):
    files = []

    class Noting(selection.OnnxEngine):  # type: ignore[name-defined]
        def __init__(self, path, *rest):
            files.append((path.stem, rest[1]))
            super().__init__(path, *rest)

    monkeypatch.setattr(selection, "OnnxEngine", Noting)
    refiner = Refiner.load("mini", "cpu", 2).warm_up()
    assert [entry for entry in files if entry[0].endswith("_step")] == [
        ("inpaint_step", 1),
        ("restore_step", 2),
    ]
    loaded = len(files)
    refiner.refine(np.full((128, 128, 3), 90, np.uint8), "a red house")
    assert len(files) == loaded


# Several callers, and failures


class Slow:
    """A step whose UNet gives its row of text's number; `wait` holds every run up."""

    def __init__(self, wait=lambda row: None):
        spec = {"sample": (1, 4, 2, 2), "context": ("n", 1, 1), "coefficients": (9,)}
        self.inputs = {name: TensorSpec(name, np.dtype(np.float32), shape) for name, shape in spec.items()}
        self.outputs = {
            name: TensorSpec(name, np.dtype(np.float32), (1, 4, 2, 2)) for name in ("next", "clean")
        }
        self.largest, self.device, self.wait, self.threads = {}, "cpu", wait, []

    def run(self, arrays, names):
        row = float(arrays["context"][0, 0, 0])
        self.threads.append(threading.current_thread().name)
        self.wait(row)
        return {"clean": np.full((1, 4, 2, 2), row, np.float32)}


ARRAYS = {
    "sample": np.zeros((1, 4, 2, 2), np.float32),
    "context": np.array([[[3.0]], [[5.0]]], np.float32),
    "coefficients": np.array([1, 0, 1, 0, 1, 0, 0, 2, 0], np.float32),
}


def test_passes_run_at_the_same_time():
    both = threading.Barrier(2, timeout=10)  # broken unless two runs meet
    single = Slow(lambda row: both.wait())
    got = SidePasses("step", single).run(ARRAYS)
    np.testing.assert_array_equal(got["clean"], np.full((1, 4, 2, 2), 3 + 2 * (5 - 3)))
    assert len(set(single.threads)) == 2


def test_a_caller_that_finds_the_helper_busy_makes_both_passes_itself():
    held, go = threading.Event(), threading.Event()

    def wait(row):
        if threading.current_thread().name == "grefine-pass":
            held.set()
            assert go.wait(10)

    single = Slow(wait)
    step = SidePasses("step", single)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(step.run, ARRAYS)
        assert held.wait(10)
        here = step.run(ARRAYS)  # would wait for `go` if it waited for the helper
        go.set()
        np.testing.assert_array_equal(here["clean"], first.result()["clean"])


def test_without_another_thread_the_caller_makes_both_passes(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    single = Slow()
    step = SidePasses("step", single)
    for _ in range(2):
        assert step.run(ARRAYS)["clean"][0, 0, 0, 0] == 7
    assert set(single.threads) == {threading.current_thread().name}


def test_many_callers_each_get_their_own(pair):
    beside, whole = pair
    asked = [inputs(whole, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        got = [*pool.map(beside.run, asked)]
    for arrays, result in zip(asked, got, strict=True):
        np.testing.assert_array_equal(result["next"], whole.run(arrays)["next"])


@pytest.mark.parametrize("failing", [3.0, 5.0])
def test_what_fails_in_either_pass_is_told_and_the_next_run_works(failing):
    broken = [failing]

    def wait(row):
        if row in broken:
            raise DeviceError("memory ran out")

    single = Slow(wait)
    step = SidePasses("step", single)
    with pytest.raises(DeviceError, match="memory ran out"):
        step.run(ARRAYS)
    broken.clear()
    assert step.run(ARRAYS)["clean"][0, 0, 0, 0] == 7


def test_time_is_that_of_the_clock_not_of_both_passes():
    both, spent = threading.Barrier(2, timeout=10), []

    def wait(row):
        start = time.perf_counter()
        both.wait()
        time.sleep(0.3)
        spent.append(time.perf_counter() - start)

    single = Slow(wait)
    step = SidePasses("step", single)
    step.run(ARRAYS)
    assert max(spent) <= step.seconds < sum(spent)


def test_wrong_inputs_are_told_as_by_any_engine(pair):
    arrays = inputs(pair[1])
    for wrong in (
        {name: array for name, array in arrays.items() if name != "context"},
        arrays | {"sample": arrays["sample"].astype(np.float64)},
    ):
        with pytest.raises(BundleError, match="inpaint_step"):
            pair[0].run(wrong)
    with pytest.raises(BundleError, match="no tensor 'last'"):
        pair[0].run(arrays, ["last"])


def test_an_example_has_the_rows_that_the_bundle_runs_with():
    bundle = Bundle.open("mini", "cpu", 1)
    assert len(example_inputs(bundle, "inpaint_step")["context"]) == 2
    assert len(example_inputs(bundle, "restore_step")["context"]) == 1
    assert len(example_inputs(bundle, "inpaint_step", rows=1)["context"]) == 1


def test_the_bundle_says_with_how_many_rows_a_step_runs():
    def manifest(guidance, interval=(0.0, 1.0)):
        return SimpleNamespace(inpaint=SimpleNamespace(guidance=guidance, interval=interval), restore=None)

    assert step_rows(manifest(1.0), "inpaint_step") == (1,)
    assert step_rows(manifest(7.5), "inpaint_step") == (2,)
    assert step_rows(manifest(7.5, (0.0, 0.5)), "inpaint_step") == (2, 1)
    assert step_rows(manifest(7.5), "inpaint_text") == (2,)
