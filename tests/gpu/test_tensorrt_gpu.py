"""TensorRT engines on a real GPU: one command, `pytest tests/gpu`.

The first part needs any CUDA GPU and cuda-core: real memory, streams and graphs under an engine that only copies its
input. The second part needs a GPU that TensorRT for RTX builds for, and runs real engines. Only its logic was run yet,
with tests/support/fake_cuda.py in the place of a GPU.
"""

import gc
import importlib.util
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from grefine_rt import Refiner
from grefine_rt.bundle.store import read_manifest
from grefine_rt.contract import Schedule
from grefine_rt.diffusion.loop import denoise
from grefine_rt.diffusion.solver import step_table
from grefine_rt.engine.device_memory import Scratch
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.engine.tensorrt import build
from grefine_rt.engine.tensorrt.build import EngineBuilder
from grefine_rt.engine.tensorrt.run import TensorRTEngine
from grefine_rt.engine.tensorrt.sidecar import homes
from grefine_rt.errors import DeviceError
from grefine_rt.models.bundle import Bundle
from tests.support import fake_tensorrt, tiny
from tests.support.gpu_work import apart, work
from tests.support.paths import MINI

core = pytest.importorskip("cuda.core", exc_type=ImportError, reason="pip install '.[tensorrt]'")
driver = pytest.importorskip("cuda.bindings.driver", reason="pip install '.[tensorrt]'")

COPY, STEP = "components/perceptual.onnx", "components/inpaint_step.onnx"
GRAPHS = sorted({*tiny.manifest()["components"].values()} - {COPY})
GB = 10**9
GROWTH = 64 * 2**20
"""Bytes that the whole GPU may have more in use: other processes live too."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def taken(used):
    """Bytes of the GPU's memory that are taken, once all that was freed is given back."""

    def taken():
        gc.collect()
        core.Device(0).sync()
        return used()

    return taken


class OnDevice(fake_tensorrt.Context):
    """A context that copies its input to its output, and spoils its scratch memory, on the device."""

    def execute_async_v3(self, stream):
        size = 4 * int(np.prod(self._shapes["image"]))
        for (error,) in (
            driver.cuMemsetD8Async(self._memory[0], 0xAB, self._memory[1], stream),
            driver.cuMemcpyDtoDAsync(self._addresses["same"], self._addresses["image"], size, stream),
        ):
            if error != driver.CUresult.CUDA_SUCCESS:
                raise RuntimeError(str(error))
        return True


@pytest.fixture
def copying(folder, tmp_path, monkeypatch):
    """Makes engines that give back their image, b pictures of (3, 32, 32); `need` bytes of activations."""
    module = fake_tensorrt.module(stream=False, context=OnDevice)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(build, "gpu_target", lambda: "sm89")
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "copy.engine"
    manifest = Bundle.open(folder, "cpu").manifest
    sidecar = EngineBuilder(("sm89",), "tensorrt").build(folder, manifest, COPY, path)

    def make(scratch=None, need=10**6):
        engine = TensorRTEngine(path, sidecar, "cuda:0", scratch=scratch)
        module.engines[-1].need = lambda profile: need
        return engine

    return make


def images(rows=1, seed=0):
    return np.random.default_rng(seed).random((rows, 3, 32, 32), dtype=np.float32)


def test_host_arrays_go_there_and_back(copying):
    engine = copying()
    for seed in range(5):
        for rows in (1, 3):
            given = images(rows, seed)
            np.testing.assert_array_equal(engine.run({"image": given})["same"], given)
    assert engine.graphs == "captured at the third run of a size"
    assert all(plan._graph is not None for plan in engine._executions.values())


def test_buffers_stay_on_the_device_through_a_replayed_loop(copying):
    binding = copying().bind()
    given = images()
    first, second = binding.upload(given), binding.buffer(given.shape)
    given = given.copy()
    copies = binding.copies
    for _ in range(10):
        binding.set_input("image", first)
        binding.set_output("same", second)
        binding.run()
        first, second = second, first
    assert binding.copies == copies
    np.testing.assert_array_equal(binding.fetch(first), given)


def test_memory_goes_back_to_the_gpu(copying, taken):
    copying().run({"image": images()})
    before = taken()
    engine = copying(need=2 * GB)
    engine.run({"image": images()})
    assert taken() - before > 1.9 * GB
    del engine
    assert taken() - before < 0.1 * GB


def test_two_hundred_loops_take_no_more_memory(copying, taken):
    engine = copying()

    def loop():
        binding = engine.bind()
        held = [binding.upload(images(16, seed)) for seed in range(4)]
        binding.set_output("same", binding.buffer((16, 3, 32, 32)))
        for value in held:
            binding.set_input("image", value)
            binding.run()

    loop()
    before = taken()
    for _ in range(200):
        loop()
    assert taken() - before < GROWTH


def test_the_driver_tells_what_memory_is_free(taken):
    gpu = Scratch("cuda:0").gpu
    before, in_use = gpu.free_memory, taken()
    held = gpu.allocate(GB)
    assert 0.9 * GB < before - gpu.free_memory < 1.2 * GB
    assert 0.9 * GB < taken() - in_use < 1.2 * GB
    gpu.free(held)


def test_out_of_memory_is_one_sentence_and_the_process_goes_on(copying, taken):
    engine, given = copying(), images()
    engine.run({"image": given})
    before = taken()
    binding = engine.bind()
    greedy = copying(need=10**13)
    for fails in (lambda: binding.buffer((10**13,)), lambda: greedy.run({"image": given})):
        with pytest.raises(DeviceError) as caught:
            fails()
        assert "OUT_OF_MEMORY" in str(caught.value)
        assert "use a smaller image" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert taken() - before < 10**8
    for _ in range(3):
        np.testing.assert_array_equal(engine.run({"image": given})["same"], given)


def test_threads_share_the_scratch_memory(copying):
    scratch = Scratch("cuda:0")
    engines = [copying(scratch), copying(scratch, need=3 * 10**6)]

    def work(index):
        given = images(1 + index % 3, index)
        for _ in range(30):
            binding = engines[index % 2].bind()
            out = binding.buffer(given.shape)
            binding.set_input("image", binding.upload(given))
            binding.set_output("same", out)
            binding.run()
            found = binding.fetch(out)
        return np.array_equal(found, given)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    assert scratch.size < 6 * 10**6


@pytest.fixture(scope="module")
def engines(gpu, folder, tmp_path_factory):
    """Real engines of the tiny bundle, by graph; they share their scratch memory."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT for RTX is not installed: pip install '.[tensorrt]'")
    import tensorrt_rtx

    if gpu.upper() not in tensorrt_rtx.ComputeCapability.__members__:
        pytest.skip(f"TensorRT for RTX knows no {gpu}")
    out, manifest = tmp_path_factory.mktemp("engines"), Bundle.open(folder, "cpu").manifest
    builder, scratch, made = EngineBuilder((gpu,)), Scratch(), {}
    for graph in GRAPHS:
        path = builder.engine_path(out, graph)
        sidecar = builder.build(folder, manifest, graph, path)
        made[graph] = TensorRTEngine(path, sidecar, "cuda:0", scratch=scratch)
    return made


def arrays_of(engine, cells=4, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"b": 1, "n": 2, "l": 6, "h": cells, "w": cells, "H": 8 * cells, "W": 8 * cells}
    made = {}
    for name, spec in engine.inputs.items():
        numbers = rng.random([sizes.get(axis, axis) for axis in spec.shape])
        made[name] = (numbers * (60 if spec.dtype == np.int64 else 1)).astype(spec.dtype)
    return made


def near(found, wanted):
    assert np.linalg.norm(found - wanted) < 2e-2 * np.linalg.norm(wanted)


@pytest.mark.parametrize("graph", GRAPHS)
def test_numbers_are_those_of_the_cpu(engines, folder, graph):
    there = OnnxEngine(folder / graph, "cpu")
    for seed in range(4):  # later ones replay a graph
        for cells in (4, 6):
            arrays = arrays_of(engines[graph], cells, seed)
            found, wanted = engines[graph].run(arrays), there.run(arrays)
            for name in wanted:
                near(found[name], wanted[name])


def loop(engine, seed=0, steps=10):
    arrays = arrays_of(engine, seed=seed)
    rows = step_table(Schedule(1000, 0.00085, 0.012, "leading", 1), "euler", steps, 1.0, "epsilon", 4.0)
    names = ("context", "pooled", "time_ids")
    conditioning = {name: arrays[name] for name in names}
    constants = {name: arrays[name] for name in ("mask", "masked_latent")}
    return denoise(engine, rows, arrays["sample"], arrays["noise"], constants, conditioning)


def test_a_loop_copies_nothing_and_its_replays_are_equal(engines, folder, monkeypatch):
    engine, made = engines[STEP], []
    bind = engine.bind
    monkeypatch.setattr(engine, "bind", lambda: made.append(bind()) or made[-1])
    first, again = loop(engine), loop(engine)
    np.testing.assert_array_equal(first, again)
    near(first, loop(OnnxEngine(folder / STEP, "cpu")))
    loop(engine, steps=20)
    # A timestep and a row of coefficients a step go up before the first one.
    assert made[2].copies - made[1].copies == 2 * 10


def test_two_threads_at_once(engines, folder):
    wanted = [loop(OnnxEngine(folder / STEP, "cpu"), seed) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda seed: [loop(engines[STEP], seed) for _ in range(5)], range(2)))
    for seed in range(2):
        for latent in found[seed]:
            near(latent, wanted[seed])


def test_two_hundred_real_loops_take_no_more_memory(engines, taken):
    for _ in range(3):
        loop(engines[STEP])
    before = taken()
    for _ in range(200):
        loop(engines[STEP])
    assert taken() - before < GROWTH


def test_a_whole_refine_of_the_embedded_bundle_agrees_with_the_cpu(engines, gpu, on_cpu, tmp_path):
    bundle = shutil.copytree(MINI, tmp_path / "mini")
    manifest, builder = read_manifest(bundle), EngineBuilder((gpu,))
    for graph in {*manifest.components.values()}:
        builder.build(bundle, manifest, graph, builder.engine_path(homes(bundle, manifest)[0], graph))
    here = work(on_cpu)
    with Refiner.load(bundle, "tensorrt") as refiner:
        there = work(refiner)
    assert {choice.backend for choice in there.backends} == {"tensorrt"}
    for name in ("stage1", "image"):
        assert apart(getattr(there, name), getattr(here, name)) < 2e-2
