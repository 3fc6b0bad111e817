"""GEGLU in two products computes what diffusers' computes in one."""

import pytest
import torch
from diffusers.models.activations import GEGLU, GELU
from torch import nn

from grefine_export import pasd_bundle
from grefine_export.inpaint_bundle import InpaintOptions, step_job
from grefine_export.models.gates import SplitGEGLU, split_gates
from grefine_export.models.pasd_loading import PasdCheckpoint
from grefine_export.models.sdxl_loading import SdxlCheckpoint
from tests.support import tiny_pasd, tiny_sdxl


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_two_products_are_one(bias, dtype):
    torch.manual_seed(0)
    whole = GEGLU(12, 20, bias).to(dtype)
    tokens = torch.randn(2, 7, 12, dtype=dtype)
    split = SplitGEGLU(whole)
    torch.testing.assert_close(split(tokens), whole(tokens))
    assert split.value.weight.data_ptr() == whole.proj.weight.data_ptr()  # no second copy of the weights
    assert (split.gate.bias is None) is not bias


def test_every_geglu_of_a_module_is_replaced_and_nothing_else():
    module = nn.Sequential(nn.Sequential(GEGLU(4, 6), nn.Linear(6, 4)), GELU(4, 4))
    tokens = torch.randn(3, 4)
    expected = module(tokens)
    split_gates(module)
    assert [type(layer) for layer in (*module[0], module[1])] == [SplitGEGLU, nn.Linear, GELU]
    torch.testing.assert_close(module(tokens), expected)


def test_the_step_of_stage_1_is_exported_with_split_gates(tmp_path):
    checkpoint = tiny_sdxl.save_folder(tiny_sdxl.Model(), tmp_path / "pipeline")
    source = SdxlCheckpoint(checkpoint, None, None)
    kinds = [type(layer) for layer in step_job(source, [], InpaintOptions(tile=512), 512).module.modules()]
    assert kinds.count(SplitGEGLU) == [type(layer) for layer in source.unet().modules()].count(GEGLU) > 0
    assert GEGLU not in kinds


def test_the_step_of_stage_2_is_exported_with_split_gates(tmp_path):
    pasd = PasdCheckpoint.find(str(tiny_pasd.save_pasd(tmp_path / "pasd")))
    job = pasd_bundle.step_job(pasd, None, pasd_bundle.RestoreOptions(personalised=False), 512)
    kinds = [type(layer) for layer in job.module.modules()]
    assert kinds.count(SplitGEGLU) == [type(layer) for layer in pasd.load().modules()].count(GEGLU) > 0
    assert GEGLU not in kinds
