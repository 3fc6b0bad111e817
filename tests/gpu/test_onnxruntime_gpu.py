"""ONNX Runtime on a GPU against the CPU: numbers, copies, threads, memory. Nothing here was run yet where there is no
GPU but its logic, with "cpu" in place of "cuda"."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from grefine_rt import Cancelled, CancelToken, DeviceError, Refiner
from grefine_rt.engine import device_memory
from grefine_rt.engine.onnxruntime.replay import ReplayEngine
from grefine_rt.engine.onnxruntime.session import CudaOptions, OnnxEngine
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.warm_up import example_inputs, one_of_each
from tests.support import tiny
from tests.support.gpu_work import SIDE, apart, work
from tests.support.paths import MINI

GROWTH = 64 * 2**20
"""Bytes that the whole GPU may have more in use: other processes live too."""


def components():
    manifest = Bundle.open(MINI, "cpu").manifest
    return one_of_each(manifest, manifest.components)


def compare(cpu, engine, component, tolerance):
    for rows in (1, 2):  # of text, for graphs that read any
        arrays = example_inputs(cpu.bundle, component, rows=rows)
        expected, result = cpu.bundle.engine(component).run(arrays), engine.run(arrays)
        assert result.keys() == expected.keys()
        for name, values in expected.items():
            assert apart(result[name], values) < tolerance, name


@pytest.mark.parametrize("component", components())
def test_every_component_agrees_with_the_cpu(on_cpu, on_cuda, component):
    compare(on_cpu, on_cuda.bundle.engine(component), component, 1e-3)


@pytest.mark.parametrize("component", components())
def test_every_component_agrees_with_the_cpu_in_the_plugin(on_cpu, rtx, component):
    file = on_cpu.bundle.manifest.components[component]
    compare(on_cpu, OnnxEngine(MINI / file, rtx), component, 2e-2)


@pytest.mark.parametrize("component", ["inpaint_step", "restore_step"])
def test_a_replayed_graph_gives_what_plain_runs_give(on_cpu, cuda, component):
    pytest.importorskip("cuda.core", exc_type=ImportError, reason="pip install cuda-core cuda-bindings")
    file = MINI / on_cpu.bundle.manifest.components[component]
    plain, replayed = OnnxEngine(file, cuda), ReplayEngine(file, cuda)
    # A larger size may make ONNX Runtime replace buffers of its own that older graphs read.
    for rows, side in ((1, 128), (2, 128), (1, 128), (2, 256), (1, 128), (2, 128)):
        arrays = example_inputs(on_cpu.bundle, component, side, rows)
        for _ in range(3):  # captured, then replayed on other numbers
            expected = plain.run(arrays)
            for name, values in replayed.run(arrays).items():
                assert apart(values, expected[name]) < 1e-5, name
            arrays = {name: np.roll(array, 1) for name, array in arrays.items()}


@pytest.mark.parametrize("component", ["inpaint_step", "restore_decode"])
def test_convolutions_of_the_other_layout_agree(on_cpu, cuda, component):
    file = on_cpu.bundle.manifest.components[component]
    compare(on_cpu, OnnxEngine(MINI / file, cuda, None, CudaOptions(nhwc=True)), component, 1e-3)


def test_a_graph_in_fp16_agrees_with_the_cpu(cuda, tmp_path):
    weights = (np.random.default_rng(0).standard_normal((64, 64)) / 8).astype(np.float16)
    graph = tiny.model(
        "g (float16[n,64] x) => (float16[n,64] y) { q = MatMul(x, k) s = Softmax<axis=-1>(q) y = MatMul(s, k) }",
        {"k": weights},
    )
    onnx.save(graph, tmp_path / "half.onnx")
    x = {"x": np.random.default_rng(1).standard_normal((32, 64)).astype(np.float16)}
    there, here = (OnnxEngine(tmp_path / "half.onnx", name).run(x)["y"] for name in (cuda, "cpu"))
    assert apart(there, here) < 2e-2


def test_a_whole_refine_agrees_with_the_cpu(on_cpu, on_cuda):
    here, there = work(on_cpu), work(on_cuda)
    assert abs(here.before.perceptual - there.before.perceptual) < 1e-3
    assert abs(here.before.alignment - there.before.alignment) < 1e-3
    for name in ("stage1", "image"):
        assert apart(getattr(there, name), getattr(here, name)) < 2e-2


def test_a_seed_gives_the_same_bits(on_cuda):
    first, second = (np.asarray(work(on_cuda).image) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_nothing_crosses_between_host_and_gpu_inside_a_loop(on_cuda, monkeypatch):
    bindings, copies = [], []
    kind = type(on_cuda.bundle.engine("inpaint_step"))
    bind = kind.bind

    def noting(engine):
        bindings.append(bind(engine))
        return bindings[-1]

    monkeypatch.setattr(kind, "bind", noting)
    for stage in ("regenerate", "restore"):
        copies.clear()

        def on_progress(part, step, steps, stage=stage):
            if part == stage and step > 0 and bindings:
                copies.append((len(bindings), bindings[-1].copies))

        work(on_cuda, on_progress=on_progress)
        loop = copies[:-1]  # the last report comes after the loop
        assert len(loop) > 1
        assert len(set(loop)) == 1, stage
        number, during = loop[-1]
        assert bindings[number - 1].copies == during + 1  # the latent came back, once
        bindings.clear()


@pytest.mark.parametrize("component", ["inpaint_step", "restore_step"])
def test_onnxruntime_itself_copies_no_tensor_of_a_loop(on_cuda, component):
    """A tensor that a graph wants on the CPU would be copied in every step."""
    engine = on_cuda.bundle.engine(component)
    session = engine.session if isinstance(engine, ReplayEngine) else engine._session
    places = [info.name for info in (*session.get_input_memory_infos(), *session.get_output_memory_infos())]
    assert {name.lower() for name in places} == {"cuda"}


def test_memory_that_ran_out_is_one_sentence_and_the_process_goes_on(on_cuda, cuda, tmp_path):
    graph = tiny.model(
        "g (float[1] x, int64[2] shape) => (float[a,b] y) { wide = Expand(x, shape) y = Exp(wide) }"
    )
    onnx.save(graph, tmp_path / "wide.onnx")
    engine, one = OnnxEngine(tmp_path / "wide.onnx", cuda), np.ones(1, np.float32)
    message = r"memory ran out on 'cuda:0' .*; use a smaller picture"
    with pytest.raises(DeviceError, match=message) as error:
        engine.run({"x": one, "shape": np.array([2**21, 2**21], np.int64)})  # 16 TB
    assert "\n" not in str(error.value)
    with pytest.raises(DeviceError, match=message):
        engine.bind().buffer((2**21, 2**21))
    small = engine.run({"x": one, "shape": np.array([2, 3], np.int64)})["y"]
    np.testing.assert_allclose(small, np.full((2, 3), np.e), rtol=1e-5)
    assert work(on_cuda).image.size == (SIDE, SIDE)


def test_two_threads_at_once(on_cuda):
    expected = {seed: np.asarray(work(on_cuda, seed).image) for seed in (3, 4)}
    with ThreadPoolExecutor(2) as pool:
        seeds = [3, 4] * 4
        for seed, result in zip(seeds, pool.map(lambda seed: work(on_cuda, seed), seeds), strict=True):
            np.testing.assert_array_equal(np.asarray(result.image), expected[seed])


def test_two_hundred_refines_take_no_more_memory(on_cuda, used):
    for _ in range(10):
        work(on_cuda)
    before = used()
    for _ in range(200):
        work(on_cuda)
    assert used() - before < GROWTH


def test_a_cancelled_call_gives_its_memory_back(on_cuda, used):
    def cancelled():
        token = CancelToken()

        def on_progress(part, step, steps):
            if part == "regenerate" and step == 2:
                token.cancel()

        with pytest.raises(Cancelled):
            work(on_cuda, cancel=token, on_progress=on_progress)

    for _ in range(5):
        cancelled()
    before = used()
    for _ in range(50):
        cancelled()
    assert used() - before < GROWTH


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_a_closed_refiner_gives_its_memory_back(cuda, used, cuda_graphs):
    if cuda_graphs and not device_memory.installed():
        pytest.skip(device_memory.MISSING)
    sizes = []
    for _ in range(4):
        with Refiner.load(MINI, cuda, cuda_graphs=cuda_graphs) as refiner:
            work(refiner)
        del refiner
        sizes.append(used())
    assert sizes[-1] - sizes[0] < GROWTH


def test_auto_takes_the_gpu_and_says_why(cuda):
    with Refiner.load(MINI) as refiner:
        result = work(refiner)
        assert {choice.component for choice in result.backends} <= set(refiner.bundle.manifest.components)
        assert len(result.backends) > 8
        for choice in result.backends:
            assert choice.device == "cuda:0"
            assert choice.reason.endswith(".")
            assert choice.backend != "onnxruntime-cuda" or "TensorRT" in choice.reason
