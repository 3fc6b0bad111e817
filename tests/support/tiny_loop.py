"""Arrays for the tiny graphs, and a denoising loop over the step of stage 1."""

import numpy as np

from grefine_rt.contract import Schedule
from grefine_rt.diffusion.loop import denoise
from grefine_rt.diffusion.solver import step_table
from grefine_rt.engine.onnxruntime.session import OnnxEngine

STEP, DECODE = "components/inpaint_step.onnx", "components/inpaint_decode.onnx"
SCHEDULE = Schedule(1000, 0.00085, 0.012, "leading", 1)


def inputs_of(folder, graph, cells=(4, 4), seed=0, rows=2):
    """Random arrays for a run of the file."""
    rng = np.random.default_rng(seed)
    h, w = cells
    sizes = {"b": 1, "n": rows, "l": 6, "h": h, "w": w, "H": 8 * h, "W": 8 * w}
    made = {}
    for name, spec in OnnxEngine(folder / graph, "cpu").inputs.items():
        shape = [sizes.get(axis, axis) for axis in spec.shape]
        made[name] = (rng.random(shape) * (60 if spec.dtype == np.int64 else 1)).astype(spec.dtype)
    return made


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def loop(engine, seed=0, solver="euler", steps=6):
    rng = np.random.default_rng(seed)
    latent, noise = rng.standard_normal((2, 1, 4, 4, 4)).astype(np.float32)[:, None, 0]
    constants = {"mask": np.ones((1, 1, 4, 4)), "masked_latent": np.zeros((1, 4, 4, 4))}
    conditioning = {
        "context": rng.random((2, 6, 5)),
        "pooled": rng.random((2, 3)),
        "time_ids": np.ones((2, 6)),
    }
    constants, conditioning = (  # type: ignore[assignment]
        {name: array.astype(np.float32) for name, array in group.items()}
        for group in (constants, conditioning)
    )
    rows = step_table(SCHEDULE, solver, steps, 1.0, "epsilon", 4.0)
    return denoise(engine, rows, latent, noise, constants, conditioning)
