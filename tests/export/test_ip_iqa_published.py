"""Checkpoints of IP-IQA's public training code, and both forms of positions, against plain float64 torch."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import typer
from typer.testing import CliRunner

from grefine_export.cli.ip_iqa import ip_iqa
from grefine_export.models.clip_loading import load_resnet
from grefine_export.models.ip_iqa import Design, IpIqa, encoders, load, save
from grefine_export.models.ip_iqa_published import load_published
from grefine_export.onnx.ip_iqa import export_ip_iqa
from grefine_rt import Assessor
from grefine_rt.imaging.image import encoder_input
from grefine_rt.text.tokenizer import PromptTokenizer
from tests.support import ip_iqa_reference as reference
from tests.support import tiny_ip_iqa

torch.set_num_threads(1)

MINI = Path(__file__).parents[2] / "engines" / "mini"
SIDE = 3  # of the token grid that the checkpoint is for: pictures of 96 pixels
HEADS = {"heads": 4, "text_heads": 1}


def images(side=32 * SIDE, count=2):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(53))


def token_ids():
    """Two texts; behind the end the authors pad with 0."""
    ids = torch.zeros(2, tiny_ip_iqa.LENGTH, dtype=torch.long)
    ids[0, :6] = torch.tensor([tiny_ip_iqa.BOS, 1, 4, 3, 0, tiny_ip_iqa.EOT])
    ids[1, :3] = torch.tensor([tiny_ip_iqa.BOS, 5, tiny_ip_iqa.EOT])
    return ids


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(folder of the CLIP checkpoint, its state with OpenAI's names)."""
    folder = tiny_ip_iqa.write_checkpoint(tmp_path_factory.mktemp("clip"))
    return folder, tiny_ip_iqa.openai_names(tiny_ip_iqa.tiny_clip())


def write(path, state):
    torch.save(reference.saved(state), path)
    return path


def published(path, folder):
    return load_published(path, load_resnet(folder))


@pytest.mark.parametrize(("outputs", "head"), [(2, "mlp"), (1, "mlp"), (2, "linear")])
def test_their_checkpoint_gives_their_scores(tmp_path, clip, outputs, head):
    folder, openai = clip
    state = reference.random_checkpoint(openai, SIDE, outputs, head)
    model, resolution = published(write(tmp_path / "checkpoint_best.pth", state), folder)
    assert resolution == 96
    assert model.design == Design(("quality", "alignment")[:outputs], head)
    with torch.no_grad():
        got = model(images(), token_ids())
    expected = reference.scores(state, openai, images(), token_ids(), **HEADS)
    assert expected.shape == (2, outputs)
    assert expected.std(0).min() > 1e-2  # the pictures and prompts do differ
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("resolution", [96, 64])
@pytest.mark.parametrize("positions", ["own", "shared"])
def test_graphs_of_both_forms_are_the_float64_reference(tmp_path, clip, positions, resolution):
    """The shared form is theirs with the attention pool's table in both pools. 64 pixels interpolate the tables."""
    folder, openai = clip
    state = reference.random_checkpoint(openai, SIDE)
    model, _ = published(write(tmp_path / "theirs.pth", state), folder)
    separate = reference.scores(state, openai, images(resolution), token_ids(), **HEADS)
    expected = separate
    if positions == "shared":
        weights = {k: v for k, v in model.state_dict().items() if k != "cross.positional_embedding"}
        model = IpIqa(model.image, model.text, Design(positions="shared")).eval()
        model.load_state_dict(weights)
        state["txt_attnpool.positional_embedding"] = state["attnpool.positional_embedding"]
        expected = reference.scores(state, openai, images(resolution), token_ids(), **HEADS)
        assert (expected - separate).abs().max() > 0.1  # the table decides
    with torch.no_grad():
        got = model(images(resolution), token_ids())
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    export_ip_iqa(model, tmp_path, resolution, "fp32", tiny_ip_iqa.LENGTH)
    run = {
        n: onnxruntime.InferenceSession(tmp_path / f"ip_iqa_{n}.onnx") for n in ("image", "text", "fusion")
    }
    (tokens,) = run["image"].run(["tokens"], {"image": images(resolution).numpy()})
    (features,) = run["text"].run(["features"], {"ids": token_ids().numpy()})
    (scores,) = run["fusion"].run(["scores"], {"tokens": tokens, "features": features})
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_a_run_that_did_not_freeze_the_text_side(tmp_path, clip):
    """Its file also has the blocks and the last norm, which then are not CLIP's."""
    folder, openai = clip
    state = reference.random_checkpoint(openai, SIDE)
    generator = torch.Generator().manual_seed(62)
    theirs = dict(openai)
    for name, value in openai.items():
        if name.startswith(("transformer.", "ln_final.")):
            theirs[name] = value + 0.1 * torch.randn(value.shape, generator=generator)
            state[name.replace("transformer.", "txt_model.")] = theirs[name]
    model, _ = published(write(tmp_path / "all.pth", state), folder)
    with torch.no_grad():
        got = model(images(), token_ids())
    expected = reference.scores(state, theirs, images(), token_ids(), **HEADS)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def test_without_a_qa_token_the_table_is_clips(tmp_path, clip):
    folder, openai = clip
    state = reference.random_checkpoint(openai, SIDE)
    del state["wte.weight"]
    model, _ = published(write(tmp_path / "no_qa.pth", state), folder)
    with torch.no_grad():
        got = model(images(), token_ids())
    state["wte.weight"] = openai["token_embedding.weight"]
    expected = reference.scores(state, openai, images(), token_ids(), **HEADS)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"resnet50.layer9.weight": torch.zeros(1)}), "no place for"),
        (lambda s: s.update({"extra": torch.zeros(1)}), "the weight 'extra', which IP-IQA has not"),
        (lambda s: s.pop("txt_attnpool.cross_attn.k_proj.bias"), "lacks the weight 'cross.k_proj.bias'"),
        (lambda s: s.pop("resnet50.bn1.running_var"), "lacks the weight 'image.trunk.bn1.running_var'"),
        (lambda s: s.pop("txt_attnpool.positional_embedding"), "public training code"),
        (lambda s: s.pop("attnpool.positional_embedding"), "lacks the weight 'image.pool.positional_emb"),
        (lambda s: s.update({"head.out_proj.weight": torch.zeros(3, 48)}), "1 or 2 scores"),
        (lambda s: s.update({"txt_pos": torch.zeros(7, 64)}), "give the CLIP that it was trained from"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, clip, change, message):
    folder, openai = clip
    state = reference.random_checkpoint(openai, SIDE)
    change(state)
    with pytest.raises(ValueError, match=message):
        published(write(tmp_path / "wrong.pth", state), folder)


def test_files_from_before_the_second_table_still_load(tmp_path):
    """Their design names no positions: they share one table."""
    model = tiny_ip_iqa.tiny_ip_iqa(Design(positions="shared"))
    path = save(model, tmp_path / "new.safetensors", 96)
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    sizes = json.loads(metadata["sizes"])
    del sizes["design"]["positions"], sizes["cross_side"]
    old = tmp_path / "old.safetensors"
    save_file(load_file(path), old, {**metadata, "sizes": json.dumps(sizes)})
    again, _ = load(old)
    assert again.design == model.design
    with torch.no_grad():
        assert torch.equal(again(images(), token_ids()), model(images(), token_ids()))


def test_a_table_of_another_grid_is_kept(tmp_path):
    clip = tiny_ip_iqa.tiny_clip()
    model = IpIqa(*encoders(clip), Design(), side=5).eval()
    assert model.cross.positional_embedding.shape == (26, 256)
    again, _ = load(save(model, tmp_path / "x.safetensors", 160))
    with torch.no_grad():
        assert torch.equal(again(images(), token_ids()), model(images(), token_ids()))


def test_the_command_takes_their_checkpoint(tmp_path, clip):
    """Scores of the runtime are those of the reference, for the prompt as it was written, brackets and all."""
    folder, openai = clip
    bundle = tmp_path / "bundle"
    shutil.copytree(MINI, bundle)
    state = reference.random_checkpoint(openai, SIDE)
    weights = write(tmp_path / "checkpoint_best.pth", state)
    app = typer.Typer()
    app.command()(ip_iqa)
    given = ["--weights", str(weights), "--bundle", str(bundle), "--precision", "fp32"]
    refused = CliRunner().invoke(app, given)
    assert refused.exit_code == 1
    assert "--clip" in refused.output
    done = CliRunner().invoke(app, [*given, "--clip", str(folder)])
    assert done.exit_code == 0, done.output
    manifest = json.loads((bundle / "bundle.json").read_text())
    entry = manifest["scorers"]["ip_iqa"]
    assert entry["settings"] == {
        "resolution": 96,
        "outputs": ["quality", "alignment"],
        "positions": "own",
    }
    assert entry["tokenizers"]["ip_iqa_text"][0]["prompts"] == "raw"
    rgb = (images(70, 1)[0].permute(1, 2, 0) * 255).byte().numpy()
    prompt = "a red house (in the sky)"
    words = PromptTokenizer.from_file(folder / "tokenizer.json", tiny_ip_iqa.LENGTH)
    ids = torch.from_numpy(words.encode(prompt))[None]
    assert not torch.equal(ids, torch.from_numpy(words.encode("a red house in the sky"))[None])
    with Assessor.load(bundle, "cpu") as assessor:
        got = assessor.assess(rgb, prompt).ip_iqa
    ids[0, int(ids[0].argmax()) + 1 :] = 0
    image = torch.from_numpy(encoder_input(rgb, 96))
    expected = reference.scores(state, openai, image, ids, **HEADS)[0]
    np.testing.assert_allclose([*got.values()], expected, rtol=1e-4, atol=1e-4)
