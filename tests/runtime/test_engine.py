"""ONNX Runtime engines: what they declare, run, bind and refuse."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.errors import BundleError, DeviceError, GRefineError, OptionError
from tests.support import tiny

ONE = np.ones((1, 4, 2), np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """y = x * c and total = sum of y, with free axes b and w."""
    file = tmp_path_factory.mktemp("engine") / "times.onnx"
    graph = tiny.model(
        "g (float[b,4,w] x, float[1] c) => (float[b,4,w] y, float total) {"
        " y = Mul(x, c) total = ReduceSum<keepdims=0>(y) }"
    )
    onnx.save(graph, file)
    return file


@pytest.fixture(scope="module")
def engine(path):
    return OnnxEngine(path, "cpu", threads=1)


def times(value):
    return np.array([value], np.float32)


def test_declares_its_tensors(engine):
    assert list(engine.inputs) == ["x", "c"]
    assert engine.inputs["x"].shape == ("b", 4, "w")
    assert engine.inputs["x"].dtype == np.float32
    assert engine.outputs["total"].shape == ()
    assert engine.device == "cpu"


def test_runs_any_size_of_a_free_axis(engine):
    for shape in ((1, 4, 2), (3, 4, 7)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        result = engine.run({"x": x, "c": times(3)})
        np.testing.assert_allclose(result["y"], x * 3)
        np.testing.assert_allclose(result["total"], (x * 3).sum(), rtol=1e-4)


def test_takes_arrays_of_any_memory_order(engine):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(0, 2, 1)
    np.testing.assert_array_equal(engine.run({"x": x, "c": times(2)})["y"], x * 2)


def test_gives_only_the_outputs_asked_for(engine):
    assert list(engine.run({"x": ONE, "c": times(1)}, ["total"])) == ["total"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": ONE}, r"\['c'\] are missing"),
        ({"x": ONE, "c": times(1), "z": ONE}, r"\['z'\] are not known"),
        ({"x": ONE.astype(np.float64), "c": times(1)}, r"'x' must be float32 \(b, 4, w\), but got float64"),
        ({"x": ONE[0], "c": times(1)}, r"but got float32 \(4, 2\)"),
        ({"x": ONE[:, :3], "c": times(1)}, r"but got float32 \(1, 3, 2\)"),
    ],
)
def test_refuses_what_the_graph_does_not_take(engine, arrays, message):
    with pytest.raises(BundleError, match=message):
        engine.run(arrays)


def test_refuses_an_unknown_output(engine):
    with pytest.raises(BundleError, match="no tensor 'q'"):
        engine.run({"x": ONE, "c": times(1)}, ["q"])


def test_failure_inside_a_run_is_a_device_error(tmp_path):
    graph = tiny.model("g (float[a] x, float[b] y) => (float[c] z) { z = Add(x, y) }")
    onnx.save(graph, tmp_path / "add.onnx")
    engine = OnnxEngine(tmp_path / "add.onnx", "cpu", threads=1)
    with pytest.raises(DeviceError, match=r"add: ONNX Runtime failed on 'cpu'") as error:
        engine.run({"x": np.ones(2, np.float32), "y": np.ones(3, np.float32)})
    assert "\n" not in str(error.value)


def test_time_adds_up(path):
    engine = OnnxEngine(path, "cpu", threads=1)
    assert engine.seconds == 0
    engine.run({"x": ONE, "c": times(1)})
    first = engine.seconds
    engine.run({"x": ONE, "c": times(1)})
    assert 0 < first < engine.seconds


def test_many_threads_share_an_engine(engine):
    def work(value):
        binding = engine.bind()
        x, y = binding.upload(ONE * value), binding.buffer(ONE.shape)
        binding.set_input("x", x)
        binding.set_input("c", binding.upload(times(2)))
        binding.set_output("y", y)
        binding.run()
        direct = engine.run({"x": ONE * value, "c": times(2)})["y"]
        return float(direct[0, 0, 0]), float(binding.fetch(y)[0, 0, 0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(40))) == [(2 * value, 2 * value) for value in range(40)]


def test_bound_buffers_swap_places(engine):
    binding = engine.bind()
    one, two = binding.upload(ONE), binding.buffer(ONE.shape)
    binding.set_input("c", binding.upload(times(3)))
    for _ in range(4):
        binding.set_input("x", one)
        binding.set_output("y", two)
        binding.run()
        one, two = two, one
    np.testing.assert_array_equal(binding.fetch(one), ONE * 81)
    np.testing.assert_array_equal(binding.fetch(two), ONE * 27)


def test_buffers_are_apart_from_the_host(engine):
    binding = engine.bind()
    source = ONE.copy()
    buffer = binding.upload(source)
    source[:] = 9
    fetched = binding.fetch(buffer)
    fetched[:] = 7
    np.testing.assert_array_equal(binding.fetch(buffer), ONE)


def test_binding_refuses_what_the_graph_does_not_take(engine):
    binding = engine.bind()
    with pytest.raises(BundleError, match="'x' must be float32"):
        binding.set_input("x", binding.buffer((1, 3, 2)))
    with pytest.raises(BundleError, match="'y' must be float32"):
        binding.set_output("y", binding.buffer((1, 4, 2), np.float16))
    with pytest.raises(BundleError, match="no tensor 'q'"):
        binding.set_input("q", binding.buffer((1,)))
    binding.set_input("x", binding.upload(ONE))
    with pytest.raises(BundleError, match=r"also wants the inputs \['c'\]"):
        binding.run()


def test_external_data_beside_the_graph(tmp_path):
    weights = np.arange(64, dtype=np.float32).reshape(1, 4, 16)
    graph = tiny.model("g (float[1,4,16] x) => (float[1,4,16] y) { y = Add(x, k) }", {"k": weights})
    onnx.save(
        graph, tmp_path / "big.onnx", save_as_external_data=True, location="big.onnx.data", size_threshold=0
    )
    assert (tmp_path / "big.onnx.data").stat().st_size >= weights.nbytes
    engine = OnnxEngine(tmp_path / "big.onnx", "cpu", threads=1)
    np.testing.assert_array_equal(engine.run({"x": np.zeros_like(weights)})["y"], weights)
    (tmp_path / "big.onnx.data").unlink()
    with pytest.raises(BundleError, match="cannot be loaded"):
        OnnxEngine(tmp_path / "big.onnx", "cpu", threads=1)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(BundleError, match="is missing: run 'grefine-rt bundle verify'"):
        OnnxEngine(tmp_path / "no.onnx", "cpu")
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="cannot be loaded by ONNX Runtime") as error:
        OnnxEngine(tmp_path / "bad.onnx", "cpu")
    assert "\n" not in str(error.value)


def test_a_graph_for_onnx_runtime_cuda_alone_says_so_on_a_cpu(tmp_path):
    node = "com.microsoft.GroupNorm <groups: int = 2, activation: int = 1, channels_last: int = 1> (x, g, b)"
    graph = tiny.model(
        f"g (float[1,h,w,4] x) => (float[1,h,w,4] y) {{ y = {node} }}",
        {"g": np.ones(4, np.float32), "b": np.zeros(4, np.float32)},
        domains=("com.microsoft",),
    )
    onnx.save(graph, tmp_path / "step.onnx")
    with pytest.raises(
        DeviceError, match=r"step: .*CUDA alone: use the device 'cuda'.*'--operators portable'\.$"
    ) as error:
        OnnxEngine(tmp_path / "step.onnx", "cpu")
    assert "\n" not in str(error.value)


def test_threads_must_be_positive(path):
    with pytest.raises(OptionError, match="at least 1"):
        OnnxEngine(path, "cpu", threads=0)


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "CPU", ""])
def test_unknown_devices(path, device):
    with pytest.raises(DeviceError, match="use 'auto', 'cpu', 'cuda' or 'cuda:N'"):
        OnnxEngine(path, device)


@pytest.mark.parametrize("device", ["auto", "tensorrt"])
def test_devices_of_others(path, device):
    with pytest.raises(DeviceError, match=f"'{device}' is no device of ONNX Runtime"):
        OnnxEngine(path, device)


def test_every_way_between_host_and_device_is_counted(engine):
    binding = engine.bind()
    one, two = binding.upload(ONE), binding.buffer(ONE.shape)
    binding.set_input("c", binding.upload(times(3)))
    assert binding.copies == 2
    for _ in range(3):
        binding.set_input("x", one)
        binding.set_output("y", two)
        binding.run()
        one, two = two, one
    assert binding.copies == 2
    binding.fetch(one)
    assert binding.copies == 3


def test_memory_that_ran_out_is_one_sentence_and_the_engine_goes_on(engine):
    binding = engine.bind()
    with pytest.raises(
        DeviceError, match=r"times: memory ran out on 'cpu' .*; use a smaller picture"
    ) as error:
        binding.buffer((2**24, 2**24))
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(engine.run({"x": ONE, "c": times(2)})["y"], ONE * 2)


def test_onnxruntime_missing_names_both_extras(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(GRefineError, match=r"install \.\[cpu\].*install \.\[gpu\]"):
        OnnxEngine(path, "cpu")


def test_importing_loads_no_runtime():
    code = "import sys, grefine_rt.engine.onnxruntime.session; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
