"""PASD against what is known of it: its size, diffusers' UNet with a ControlNet, the place of PACA."""

import pytest
import torch
from diffusers import Transformer2DModel

from grefine_export.models.pasd import PasdUNet
from tests.support import tiny_models

SD15 = {"cross_attention_dim": 768}


def inputs(rows=2):
    torch.manual_seed(0)
    return (
        torch.randn(rows, 4, 8, 12),
        torch.tensor([321.0]),
        torch.randn(rows, 5, tiny_models.CONTEXT),
        torch.rand(1, 3, 64, 96),
    )


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.fixture(scope="module")
def sd15():
    with torch.device("meta"):
        return PasdUNet(SD15, SD15)


def test_sd15_has_twelve_paca_blocks_and_the_published_size(sd15):
    assert len(sd15.paca) == sum(len(block.resnets) for block in sd15.unet.up_blocks) == 12
    assert count(sd15.unet, sd15.paca) == pytest.approx(1.108e9, rel=1e-3)


def test_paca_widths_follow_the_resnets_and_the_control_features(sd15):
    widths = [(block.in_channels, block.transformer_blocks[0].attn2.to_k.in_features) for block in sd15.paca]
    up = [(1280, 1280)] * 3 + [(1280, 1280), (1280, 1280), (1280, 640)]
    assert widths == [*up, (640, 640), (640, 640), (640, 320), (320, 320), (320, 320), (320, 320)]
    assert {block.config.num_attention_heads for block in sd15.paca} == {8}


def test_starts_as_the_plain_unet():
    model, (sample, timestep, context, control) = tiny_models.pasd(active=False), inputs()
    with torch.no_grad():
        plain = model.unet(sample, timestep, context).sample
        assert torch.equal(model(sample, timestep, context, control), plain)


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_without_paca_equals_diffusers_unet_with_controlnet(scale):
    model, (sample, timestep, context, control) = tiny_models.pasd(), inputs()
    for block in model.paca:
        torch.nn.init.zeros_(block.proj_out.weight)
        torch.nn.init.zeros_(block.proj_out.bias)
    with torch.no_grad():
        residuals, middle = model.controlnet(
            sample, timestep, context, control.expand(2, -1, -1, -1), scale, return_dict=False
        )
        expected = model.unet(
            sample,
            timestep,
            context,
            down_block_additional_residuals=residuals,
            mid_block_additional_residual=middle,
        ).sample
        got = model(sample, timestep, context, control, conditioning_scale=scale)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_each_paca_block_reads_its_own_control_feature():
    """Hooks record what every block gets: features in reverse order, one token a pixel."""
    model, (sample, timestep, context, control) = tiny_models.pasd(), inputs()
    seen = []
    for block in model.paca:
        block.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((args[0], kwargs["encoder_hidden_states"])), with_kwargs=True
        )
    with torch.no_grad():
        model(sample, timestep, context, control)
        features, _ = model.controlnet(sample, timestep, context, control, return_dict=False)
    assert len(seen) == len(features) == 4
    for (hidden, tokens), feature in zip(seen, reversed(features), strict=True):
        assert hidden.shape[2:] == feature.shape[2:]
        torch.testing.assert_close(tokens, feature.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("index", range(4))
def test_every_paca_block_has_a_say(index):
    model, arguments = tiny_models.pasd(), inputs()
    with torch.no_grad():
        before = model(*arguments)
        torch.nn.init.zeros_(model.paca[index].proj_out.weight)
        assert not torch.allclose(model(*arguments), before, atol=1e-4)


def test_all_parts_learn():
    model = tiny_models.pasd().train()
    model(*inputs()).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(block.proj_out.weight.grad.any() for block in model.paca)
    assert model.controlnet.controlnet_cond_embedding.conv_in.weight.grad.any()


def test_loads_a_checkpoint_under_published_names():
    source, target = tiny_models.pasd(), tiny_models.pasd(active=False)
    unet = dict(source.unet.state_dict())
    places = ["0.pixel_attentions.0", "0.pixel_attentions.1", "1.pixel_attentions.0", "1.pixel_attentions.1"]
    for place, block in zip(places, source.paca, strict=True):
        unet |= {f"up_blocks.{place}.{name}": value for name, value in block.state_dict().items()}
    controlnet = dict(source.controlnet.state_dict())
    controlnet["controlnet_cond_embedding.to_rgbs.0.weight"] = torch.zeros(3, 32, 3, 3)
    target.load_published(unet, controlnet)
    with torch.no_grad():
        assert torch.equal(target(*inputs()), source(*inputs()))
    del unet["up_blocks.1.pixel_attentions.1.proj_out.bias"]
    with pytest.raises(ValueError, match=r"unet/up_blocks\.1\.pixel_attentions\.1\.proj_out\.bias"):
        target.load_published(unet, controlnet)


def test_different_blocks_are_refused():
    with pytest.raises(ValueError, match="same blocks"):
        PasdUNet({**tiny_models.BLOCKS, **tiny_models.UP}, {**tiny_models.BLOCKS, "layers_per_block": 2})


def test_paca_is_a_whole_transformer_block(sd15):
    for block in sd15.paca:
        assert isinstance(block, Transformer2DModel)
        (inner,) = block.transformer_blocks
        assert {"attn1", "attn2", "ff"} <= dict(inner.named_children()).keys()
