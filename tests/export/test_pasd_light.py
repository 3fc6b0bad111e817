"""The step of PASD-light with RRDBs in half precision, its attention in chunks: exported and run."""

import torch
from diffusers.models.attention_processor import Attention

from grefine_export.models import pasd_attention
from grefine_export.models.pasd_loading import PasdCheckpoint
from grefine_export.onnx.component import Job, export_component
from grefine_export.onnx.step import RestoreStep
from tests.support import tiny_models, tiny_pasd


def step_inputs(height, width, rows):
    generator = torch.Generator().manual_seed(width)
    latents = {
        name: torch.randn(1, 4, height, width, generator=generator)
        for name in ("sample", "previous", "noise")
    }
    return {
        **latents,
        "control": torch.rand(1, 3, 8 * height, 8 * width, generator=generator),
        "context": torch.randn(rows, 77, tiny_pasd.WIDTH, generator=generator),
        "timestep": torch.tensor([181.0]),
        "coefficients": torch.tensor([1.0, 1.1, -0.5, 0.6, 0.5, -0.1, 0.05, 4.0, 0.5]),
    }


def test_light_rrdb_step_in_half_precision_and_chunks(tmp_path, monkeypatch):
    folder = tiny_pasd.save_pasd(tmp_path / "light", "flat", light=True, rrdb=True)
    monkeypatch.setattr(pasd_attention, "LIMIT", 2**13)

    def build():
        model = PasdCheckpoint.find(str(folder)).load()
        pasd_attention.chunk_pasd(model, 64, 2)
        chunks = {part.processor.chunks for part in model.modules() if isinstance(part, Attention)}
        assert chunks == {1, 4}
        return Job(
            RestoreStep(model, 0.8).eval(),
            step_inputs(8, 12, 2),
            step_inputs(12, 8, 1),
            ["next", "clean"],
            tiny_models.RESTORE_AXES,
        )

    file = tmp_path / "restore_step.onnx"
    assert 0 < export_component(file, build, "fp16", {}, lambda _line: None) < 2e-2
