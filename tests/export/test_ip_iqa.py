"""IP-IQA: the [QA] token, both pools, heads, its file, its graphs, its place in a bundle."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
import typer
from transformers import CLIPTextConfig
from typer.testing import CliRunner

from grefine_export.cli.ip_iqa import ip_iqa
from grefine_export.models.clip_resnet import AttentionPool2d, ModifiedResNet
from grefine_export.models.clip_resnet_surgery import ResNetClip
from grefine_export.models.ip_iqa import Design, IpIqa, PromptEncoder, encoders, load, save
from grefine_export.onnx.ip_iqa import add_to_bundle, export_ip_iqa
from grefine_rt import Assessor
from grefine_rt.imaging.image import encoder_input
from grefine_rt.text.tokenizer import PromptTokenizer
from tests.support import tiny_clip, tiny_ip_iqa
from tests.support.paths import MINI


def images(count=2, side=64):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(53))


def token_ids():
    """Texts of 3, 0 and as many tokens as there is room for."""
    ids = torch.randint(
        0, tiny_ip_iqa.BOS, (3, tiny_ip_iqa.LENGTH), generator=torch.Generator().manual_seed(54)
    )
    ids[:, 0] = tiny_ip_iqa.BOS
    ids[0, 4:], ids[1, 1:], ids[2, -1] = tiny_ip_iqa.EOT, tiny_ip_iqa.EOT, tiny_ip_iqa.EOT
    return ids


# --- the text side


@pytest.mark.parametrize("eos", [tiny_clip.EOT, 2])
def test_before_training_a_prompt_has_the_feature_that_clip_gives_it(eos):
    """The [QA] token starts as the end-of-text token; configurations that say 2 mean the highest id."""
    clip, ids = tiny_clip.tiny_clip(eos), tiny_clip.token_ids()
    with torch.no_grad():
        got = PromptEncoder(clip)(ids)
        expected = clip.get_text_features(input_ids=ids).pooler_output
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_the_qa_token_replaces_the_end_of_text_token():
    clip, ids = tiny_clip.tiny_clip(), tiny_clip.token_ids()
    encoder = PromptEncoder(clip)
    learned = torch.randn(16, generator=torch.Generator().manual_seed(55))
    with torch.no_grad():
        before = encoder(ids)
        encoder.qa.copy_(learned)
        got = encoder(ids)
        clip.text_model.embeddings.token_embedding.weight[tiny_clip.EOT] = learned
        expected = clip.get_text_features(input_ids=ids).pooler_output
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert (got - before).abs().max() > 0.1


def test_the_qa_token_is_all_that_learns_on_the_text_side():
    encoder = PromptEncoder(tiny_clip.tiny_clip())
    assert [name for name, p in encoder.named_parameters() if p.requires_grad] == ["qa"]
    encoder(tiny_clip.token_ids()).sum().backward()
    assert (encoder.qa.grad != 0).all()
    plain = PromptEncoder(tiny_clip.tiny_clip(), qa_token=False)
    assert not any(p.requires_grad for p in plain.parameters())


def test_the_tokenizer_of_clip_serves_unchanged():
    """The id at the end of every encoded prompt is the one whose place the [QA] token takes."""
    tokenizer = PromptTokenizer.from_file(MINI / "tokenizers" / "clip.json", 40)
    clip = tiny_clip.tiny_clip()
    clip.text_model.config.eos_token_id = tokenizer.eot
    encoder = PromptEncoder(clip)
    assert encoder.end == tokenizer.eot
    for prompt in ("", "a red house", "a red house " * 40):
        ids = tokenizer.encode(prompt)
        first = int((ids == encoder.end).argmax())
        assert ids[first] == encoder.end
        assert tokenizer.eot not in ids[:first]


# --- pools and heads


def test_both_pools_read_the_same_tokens():
    model, ids = tiny_ip_iqa.tiny_ip_iqa(Design(head="linear", positions="shared")), token_ids()
    with torch.no_grad():
        tokens = model.image.tokens(images(3))
        mean, asked = tokens[:, 0], model.text(ids)
        assert tokens.shape == (3, 1 + 4, 256)
        both = torch.cat([model.image.pool.pool(tokens), model.cross(asked, tokens)], 1)
        expected = both @ model.head.weight.T + model.head.bias
        torch.testing.assert_close(model(images(3), ids), expected)
        # The attention pool is CLIP's own way from picture to feature.
        torch.testing.assert_close(model.image(images(3)), both[:, :24])
        torch.testing.assert_close(
            mean - model.image.pool.positional_embedding[0], model.image.features(images(3)).mean((2, 3))
        )
    assert expected.shape == (3, 2)


def test_the_prompt_decides_with_the_picture():
    model, ids = tiny_ip_iqa.tiny_ip_iqa(), token_ids()
    with torch.no_grad():
        one, other = model(images(3), ids), model(images(3), ids.roll(1, 0))
        baseline = tiny_ip_iqa.tiny_ip_iqa(Design(prompt=False))
        assert torch.equal(baseline(images(3), ids), baseline(images(3), ids.roll(1, 0)))
    assert (one - other).abs().max() > 1e-3
    assert baseline.text is None
    assert baseline.cross is None


@pytest.mark.parametrize(
    ("head", "names", "weights"),
    [("linear", ("quality",), 49), ("mlp", ("quality", "alignment"), 48 * 48 + 48 + 2 * 48 + 2)],
)
def test_heads(head, names, weights):
    """48 features: 24 of each pool."""
    model = tiny_ip_iqa.tiny_ip_iqa(Design(names, head))
    assert sum(p.numel() for p in model.head.parameters()) == weights
    assert model(images(3), token_ids()).shape == (3, len(names))
    model.train()
    differ = not torch.equal(model(images(3), token_ids()), model(images(3), token_ids()))
    assert differ == (head == "mlp")  # dropout


def test_training_mode_leaves_the_text_side_alone():
    model = tiny_ip_iqa.tiny_ip_iqa().train()
    assert model.image.training
    assert not any(module.training for module in model.text.modules())
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert all(name.startswith("text.") for name in frozen)
    assert "text.qa" not in frozen


# --- its file


@pytest.mark.parametrize("design", [Design(), Design(("quality",), "linear", qa_token=False)])
def test_the_file_holds_all_of_it(tmp_path, design):
    model = tiny_ip_iqa.tiny_ip_iqa(design)
    again, resolution = load(save(model, tmp_path / "deep" / "ip_iqa.safetensors", 96))
    assert resolution == 96
    assert again.design == design
    with torch.no_grad():
        assert torch.equal(again(images(3), token_ids()), model(images(3), token_ids()))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(ValueError, match="cannot be read as weights of IP-IQA"):
        load(tmp_path / "text")
    with pytest.raises(ValueError, match="holds no IP-IQA"):
        load(tiny_ip_iqa.write_checkpoint(tmp_path / "clip") / "model.safetensors")
    with pytest.raises(ValueError, match="baseline"):
        save(tiny_ip_iqa.tiny_ip_iqa(Design(prompt=False)), tmp_path / "x", 64)


# --- its graphs


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ip_iqa")
    model = tiny_ip_iqa.tiny_ip_iqa()
    errors = export_ip_iqa(model, folder, 96, "fp32", tiny_ip_iqa.LENGTH)
    names = ("image", "text", "fusion")
    return model, {n: onnxruntime.InferenceSession(folder / f"ip_iqa_{n}.onnx") for n in names}, errors


@pytest.mark.parametrize("count", [1, 3])
def test_the_graphs_are_the_model(exported, count):
    model, sessions, errors = exported
    assert max(errors.values()) < 1e-4
    image, ids = images(count, 96), token_ids()[-count:]
    (tokens,) = sessions["image"].run(["tokens"], {"image": image.numpy()})
    (features,) = sessions["text"].run(["features"], {"ids": ids.numpy()})
    (scores,) = sessions["fusion"].run(["scores"], {"tokens": tokens, "features": features})
    assert tokens.shape == (count, 1 + 9, 256)
    assert features.shape == (count, 24)
    with torch.no_grad():
        np.testing.assert_allclose(scores, model(image, ids), rtol=1e-4, atol=1e-4)


def test_the_positions_are_a_constant_of_the_graph(exported):
    """Interpolated at export; a graph with Resize in it would do it for every picture."""
    import onnx

    model = onnx.load(exported[1]["image"]._model_path)
    assert "Resize" not in {node.op_type for node in model.graph.node}


def test_what_can_not_be_exported(tmp_path):
    with pytest.raises(ValueError, match="multiple of 32"):
        export_ip_iqa(tiny_ip_iqa.tiny_ip_iqa(), tmp_path, 100, length=tiny_ip_iqa.LENGTH)
    with pytest.raises(ValueError, match="without prompts"):
        export_ip_iqa(tiny_ip_iqa.tiny_ip_iqa(Design(prompt=False)), tmp_path, 96)


def test_it_joins_a_bundle(tmp_path):
    """By the command; the scores that the runtime gives are those of the model, and the rest of the bundle stays."""
    bundle, weights = tmp_path / "bundle", tmp_path / "trained" / "ip_iqa.safetensors"
    shutil.copytree(MINI, bundle)
    before = json.loads((bundle / "bundle.json").read_text())
    before["weights"] = [one for one in before["weights"] if not one["component"].startswith("ip_iqa")]
    stale = {"component": "ip_iqa_text", "origin": "an older one", "license": "none"}
    (bundle / "bundle.json").write_text(json.dumps({**before, "weights": [*before["weights"], stale]}))
    model = tiny_ip_iqa.tiny_ip_iqa()
    words = tiny_ip_iqa.write_tokenizer(weights.parent)
    save(model, weights, 64)
    app = typer.Typer()
    app.command()(ip_iqa)
    given = ["--weights", weights, "--bundle", bundle, "--precision", "fp32", "--origin", "a test"]
    held = sorted(bundle.rglob("*"))
    result = CliRunner().invoke(app, [str(argument) for argument in (*given, "--resolution", 100)])
    assert result.exit_code == 1
    assert sorted(bundle.rglob("*")) == held
    result = CliRunner().invoke(app, [str(argument) for argument in given])
    assert result.exit_code == 0, result.output
    after = json.loads((bundle / "bundle.json").read_text())
    origins = {weight["component"]: weight["origin"] for weight in after["weights"]}
    assert len(origins) == len(after["weights"]) == len(before["weights"]) + 3
    assert origins["ip_iqa_text"] == "a test"
    assert all(
        after[name] == after[name] | before[name]
        for name in ("perceptual", "alignment", "plan", "inpaint", "restore")
    )
    rgb = (images(1, 70)[0].permute(1, 2, 0) * 255).byte().numpy()
    prompt = "a red house under the sun"
    with Assessor.load(bundle, "cpu") as assessor:
        got = assessor.assess(rgb, prompt).ip_iqa
    ids = PromptTokenizer.from_file(words, tiny_ip_iqa.LENGTH).encode(prompt)
    with torch.no_grad():
        expected = model(torch.from_numpy(encoder_input(rgb, 64)), torch.from_numpy(ids)[None])[0]
    assert [*got] == ["quality", "alignment"]
    np.testing.assert_allclose([*got.values()], expected, rtol=1e-4, atol=1e-4)


def test_no_bundle_no_export(tmp_path):
    words = tiny_ip_iqa.write_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no bundle"):
        add_to_bundle(
            tiny_ip_iqa.tiny_ip_iqa(), tmp_path, 64, words, length=12, origin="a test", license_name="none"
        )
    assert [*tmp_path.iterdir()] == [words]


@pytest.mark.slow
def test_rn50_at_full_size(tmp_path):
    """Random weights in every size of the real one, pictures of 512 x 512."""
    torch.manual_seed(56)
    trunk = ModifiedResNet()
    text = CLIPTextConfig(vocab_size=49408, bos_token_id=49406, eos_token_id=49407, hidden_act="quick_gelu")
    clip = ResNetClip(trunk, AttentionPool2d(7, trunk.channels, 32, 1024), text, 1024)
    model = IpIqa(*encoders(clip.requires_grad_(False)), Design())
    assert model.head[1].weight.shape == (2048, 2048)
    errors = export_ip_iqa(model, tmp_path, 512, "fp16")
    assert max(errors.values()) < 2e-2
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size == pytest.approx(2 * sum(p.numel() for p in model.parameters()), rel=0.1)
