"""`grefine-export clip`: T_p, tokenizers, graphs against float64 numpy, the bundle at run time, and the command."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import typer
from safetensors.torch import save_file
from transformers import CLIPTokenizer
from typer.testing import CliRunner

from grefine_export.cli.clip import clip as command
from grefine_export.clip_bundle import Batch, Source, write_bundle
from grefine_export.models.clip_loading import surgery
from grefine_export.models.clip_prompts import (
    ALPHA_FILE,
    ANTONYMS,
    CONTEXT_FILES,
    PUBLISHED_ALPHA,
    antonym_t_p,
    published_t_p,
    read_alpha,
)
from grefine_export.models.clip_tokenizer import OPENAI_FILE, read_tokenizer
from grefine_rt.assess.indicator import AssessOptions
from grefine_rt.assessor import Assessor
from grefine_rt.bundle import store
from grefine_rt.text.tokenizer import PromptTokenizer
from tests.support import clip_files
from tests.support.clip_reference import Reference, ResNetReference

TEXTS = (
    "a red cat",
    "Good  PHOTO.",
    "it's 25 cats!! don't",
    "naïve café – 日本語 😀",
    "",
    "x" * 300,
)


@pytest.fixture(scope="module")
def clip():
    return clip_files.random_clip(clip_files.small_config())


@pytest.fixture(scope="module")
def folder(clip, tmp_path_factory):
    """A model folder as people fetch it: configuration, weights, tokenizer."""
    folder = clip_files.save_transformers(clip, tmp_path_factory.mktemp("model") / "clip-small")
    clip_files.small_tokenizer_files(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return read_tokenizer(folder, clip_files.VOCABULARY)


# --- tokenizers


def test_tokenizer_is_transformers_own(folder, tokenizer):
    own = CLIPTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert tokenizer.encode(text).ids == own(text).input_ids, text
    assert tokenizer.encode("good photo").ids != tokenizer.encode("bad photo").ids


def test_tokenizer_json_is_the_same(folder, tokenizer, tmp_path):
    padding = read_tokenizer(folder, clip_files.VOCABULARY)
    padding.enable_padding(length=77)
    padding.enable_truncation(5)
    padding.save(str(tmp_path / "tokenizer.json"))
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        again = read_tokenizer(source, clip_files.VOCABULARY)
        assert again.encode(TEXTS[2]).ids == tokenizer.encode(TEXTS[2]).ids


def openai_lines():
    """As many merges as OpenAI's file has: first two real words, then pairs of symbols."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(code) for code in (*printable, *range(256, 512 - len(printable)))]
    merges = ["c a", "ca t</w>", "r e", "re d</w>"]
    merges += [f"{a} {b}" for a in alphabet for b in alphabet if f"{a} {b}" not in merges]
    return merges[: 49152 - 256 - 2]


def test_openai_vocabulary(tmp_path):
    """Ids follow from the order of the file: 256 bytes, 256 bytes at a word's end, merges, start, end."""
    merges = openai_lines()
    with gzip.open(tmp_path / OPENAI_FILE, "wt", encoding="utf-8") as file:
        file.write("\n".join(["bpe_simple_vocab version", *merges, "of later merges"]) + "\n")
    tokenizer = read_tokenizer(tmp_path, 49408)
    assert tokenizer.get_vocab_size() == 49408
    # "!" is the first printable byte; "a" is the 65th after it.
    assert tokenizer.encode("! a cat red").ids == [49406, 256, 256 + ord("a") - 33, 512 + 1, 512 + 3, 49407]
    # Its two bytes are one token inside a word; at the end the second byte has another symbol, in no merge.
    first, second = 94 + 12 + 0xC3 - 174, 94 + 0xA9 - 161
    assert tokenizer.encode("éa").ids[1:-1] == [512 + merges.index("Ã ©"), 256 + ord("a") - 33]
    assert tokenizer.encode("é").ids[1:-1] == [first, 256 + second]


def test_tokenizer_of_another_model(folder):
    with pytest.raises(ValueError, match="has 560 tokens, but the checkpoint's text encoder has 49408"):
        read_tokenizer(folder, 49408)


def test_no_tokenizer(tmp_path):
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(FileNotFoundError, match="give --tokenizer"):
            read_tokenizer(source, 49408)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", OPENAI_FILE])
def test_a_tokenizer_that_is_none(tmp_path, name):
    (tmp_path / name).write_text("nothing")
    with pytest.raises(ValueError, match="cannot be read as CLIP's tokenizer"):
        read_tokenizer(tmp_path, 560)


# --- T_p


def test_antonyms_are_clips_text_features(clip, tokenizer):
    encoder = surgery(clip)
    t_p = antonym_t_p(encoder, tokenizer)
    assert t_p.shape == (4, 2, 40)
    assert ANTONYMS[0] == ("Good photo.", "Bad photo.")
    for pair, features in zip(ANTONYMS, t_p, strict=True):
        for text, feature in zip(pair, features, strict=True):
            ids = torch.tensor([tokenizer.encode(text).ids])
            torch.testing.assert_close(
                feature, clip.get_text_features(ids).pooler_output[0], rtol=1e-4, atol=1e-5
            )
    assert (t_p[:, 0] - t_p[:, 1]).norm(dim=-1).min() > 0.1


def write_contexts(clip, folder, words):
    """The published layout, its vectors taken from the table of tokens; `words` (4, 2, 16 + 3 tokens)."""
    folder.mkdir()
    table = clip.text_model.embeddings.token_embedding.weight
    bos, eot = clip.config.text_config.bos_token_id, clip.config.text_config.eos_token_id
    for name, pair in zip(CONTEXT_FILES, words, strict=True):
        end = torch.full((2, 57), 0)
        end[:, 0] = eot
        suffix = torch.cat([pair[:, 16:], end], 1)
        parts = {"ctx": pair[:, :16], "token_prefix": torch.full((2, 1), bos), "token_suffix": suffix}
        params = {f"prompt_learner.{part}": table[ids].clone() for part, ids in parts.items()}
        torch.save({"params": params}, folder / name)
    return folder


@pytest.fixture(scope="module")
def words():
    return torch.randint(3, clip_files.VOCABULARY - 2, (4, 2, 19), generator=torch.Generator().manual_seed(9))


def test_contexts_of_real_tokens_are_that_prompts_features(clip, words, tmp_path):
    """Start, 8 vectors, the class word of 3 tokens (its own in each row), 8 vectors, end at position 20 of 77."""
    t_p = published_t_p(surgery(clip), write_contexts(clip, tmp_path / "pq", words))
    ids = torch.full((8, 77), 0)
    ids[:, 0], ids[:, 20] = clip.config.text_config.bos_token_id, clip.config.text_config.eos_token_id
    flat = words.flatten(0, 1)
    ids[:, 1:9], ids[:, 9:12], ids[:, 12:20] = flat[:, :8], flat[:, 16:], flat[:, 8:16]
    expected = clip.get_text_features(ids).pooler_output
    torch.testing.assert_close(t_p.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_contexts_of_another_text_encoder(clip, words, tmp_path):
    write_contexts(clip, tmp_path / "pq", words)
    other = clip_files.random_clip(clip_files.small_config(), seed=4)
    with pytest.raises(ValueError, match=r"another text encoder: give that CLIP's checkpoint \(ViT-B/16 for"):
        published_t_p(surgery(other), tmp_path / "pq")


def test_contexts_that_lack_something(clip, words, tmp_path):
    folder = write_contexts(clip, tmp_path / "pq", words)
    torch.save({"params": {"prompt_learner.ctx": torch.zeros(2, 16, 64)}}, folder / CONTEXT_FILES[1])
    with pytest.raises(ValueError, match=r"lacks 'prompt_learner\.token_prefix'"):
        published_t_p(surgery(clip), folder)
    (folder / CONTEXT_FILES[0]).unlink()
    with pytest.raises(FileNotFoundError, match=CONTEXT_FILES[0]):
        published_t_p(surgery(clip), folder)


def test_alpha_is_the_papers_unless_fitted(tmp_path):
    assert read_alpha(tmp_path) == PUBLISHED_ALPHA
    (tmp_path / ALPHA_FILE).write_text("[0.8, 0.7, 0.65]")
    assert read_alpha(tmp_path) == (0.8, 0.7, 0.65)


@pytest.mark.parametrize("text", ["", "0.5", "[0.5, 0.5]", "[0.5, 0.5, 0]", '[0.5, 0.5, "x"]', "[1, 1, NaN]"])
def test_a_wrong_alpha(tmp_path, text):
    (tmp_path / ALPHA_FILE).write_text(text)
    with pytest.raises(ValueError, match="three numbers above 0"):
        read_alpha(tmp_path)


PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "pq_embeddings"


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published contexts are not here")
def test_the_published_files(tmp_path):
    """They need no class word from outside: it lies in their suffix, different for good and bad."""
    config = clip_files.small_config()
    config.text_config.hidden_size, config.text_config.num_attention_heads = 512, 8
    clip = clip_files.random_clip(config)
    with pytest.raises(ValueError, match="another text encoder"):
        published_t_p(surgery(clip), PUBLISHED)
    prefix = torch.load(PUBLISHED / CONTEXT_FILES[0], weights_only=True)["params"][
        "prompt_learner.token_prefix"
    ]
    clip.text_model.embeddings.token_embedding.weight[-2] = prefix[0, 0]
    t_p = published_t_p(surgery(clip), PUBLISHED)
    assert t_p.shape == (4, 2, 40)
    assert (t_p[:, 0] - t_p[:, 1]).norm(dim=-1).min() > 0.05


# --- graphs and bundles


def numpy_outputs(tokens, t_p, scale):
    """`pairs`, `published` and `tokens` of one picture, from raw tokens (1 + N, d)."""
    t_p = t_p.double().numpy()
    unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    cosines = np.einsum("td,fpd->tfp", unit, t_p / np.linalg.norm(t_p, axis=-1, keepdims=True))
    good, bad = np.moveaxis(np.exp(scale * cosines), -1, 0)
    over_tokens = tokens / np.linalg.norm(tokens, axis=0, keepdims=True)
    return good / (good + bad), np.einsum("td,fpd->tfp", over_tokens, t_p), unit


def graph_of(bundle, component):
    file = json.loads((bundle / "bundle.json").read_text())["components"][component]
    return onnxruntime.InferenceSession(bundle / file, providers=["CPUExecutionProvider"])


def assert_graph(bundle, tokens_of, clip, t_p, bound, count=2):
    """The exported graph against numpy, every output of every picture; `tokens_of(image)` are the raw tokens."""
    graph = graph_of(bundle, "perceptual")
    side = graph.get_inputs()[0].shape[2]
    images = np.random.default_rng(2).random((count, 3, side, side), np.float32)
    names = ["pairs", "published", "tokens"]
    got = graph.run(names, {"image": images})
    scale = float(clip.logit_scale.exp())
    for index, image in enumerate(images.astype(np.float64)):
        reference = numpy_outputs(tokens_of(image), t_p, scale)
        for name, value, expected in zip(names, got, reference, strict=True):
            error = np.linalg.norm(value[index] - expected) / np.linalg.norm(expected)
            assert error < bound, name


def invoke(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("weights", "compute", "bound", "attention"),
    [
        ("fp32", "fp32", 1e-4, "vv"),
        ("fp16", "fp32", 2e-2, "vv-normalised"),
        ("fp16", "fp16", 2e-2, "vv"),
        pytest.param("fp16", "fp16", 2e-2, "vv-normalised", marks=pytest.mark.slow),
    ],
)
def test_command_on_a_folder(
    clip, folder, tokenizer, tmp_path, monkeypatch, weights, compute, bound, attention
):
    out = tmp_path / "bundle"
    monkeypatch.chdir(folder)
    result = invoke(
        *("--checkpoint", "." if attention == "vv" else folder, "--out", out),
        *("--weights", weights, "--compute", compute, "--size", 96),
        *(() if attention == "vv" else ("--attention", attention)),
        *("--batch", "1..3"),
    )
    assert result.exit_code == 0, result.output
    manifest = store.verify(out)
    assert (manifest.inpaint, manifest.restore, manifest.scorers) == (None, None, {})
    assert (manifest.perceptual.resolution, manifest.perceptual.grid) == (96, 6)
    assert manifest.perceptual.attention == attention
    assert manifest.perceptual.alpha == pytest.approx(PUBLISHED_ALPHA, abs=5e-5)
    assert manifest.alignment.temperature == pytest.approx(np.exp(3.0), rel=1e-5)
    assert {weight.component: weight.license for weight in manifest.weights} == {
        "perceptual": "MIT",
        "clip_text": "MIT",
    }
    assert "clip-small" in manifest.weights[0].origin
    assert str(tmp_path.parent) not in (out / "bundle.json").read_text()

    t_p = antonym_t_p(surgery(clip), tokenizer)
    reference = Reference(clip)
    reference.size = 96
    name = "vision_model.embeddings.position_embedding.weight"
    positions = torch.from_numpy(reference.state[name])
    grid = torch.nn.functional.interpolate(positions[1:].T.reshape(1, -1, 4, 4), (6, 6), mode="bicubic")
    reference.state[name] = torch.cat([positions[:1], grid.reshape(-1, 36).T]).numpy()
    assert_graph(out, lambda image: reference.tokens(image, 6, attention), clip, t_p, bound)

    text = PromptTokenizer.from_file(
        out / "tokenizers" / "clip.json", manifest.tokenizers["alignment_text"][0].length
    )
    ids = np.stack([text.encode(words) for words in TEXTS])
    features = graph_of(out, "alignment_text").run(["features"], {"ids": ids})[0]
    own = clip.get_text_features(torch.from_numpy(ids)).pooler_output.numpy()
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    assert np.linalg.norm(features - own) < bound * np.linalg.norm(own)


@pytest.fixture(scope="module")
def contexts(clip, words, tmp_path_factory):
    """As `learn t-p` leaves them: with the alpha that was fitted to them."""
    folder = write_contexts(clip, tmp_path_factory.mktemp("contexts") / "pq", words)
    (folder / ALPHA_FILE).write_text("[0.8, 0.7, 0.65]")
    return folder


@pytest.fixture(scope="module")
def bundle(clip, folder, contexts, tmp_path_factory):
    """Of an open_clip file alone, with contexts, a tokenizer from elsewhere and two pictures at a time."""
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    path = clip_files.save_open_clip(clip, out.parent / "small.safetensors")
    result = invoke(
        *("--checkpoint", path, "--out", out, "--contexts", contexts, "--tokenizer", folder / "vocab.json"),
        *("--batch", 2, "--weights", "fp32", "--license", "CC0-1.0"),
    )
    assert result.exit_code == 0, result.output
    return out


def test_command_with_contexts_and_a_tokenizer_from_elsewhere(clip, contexts, bundle):
    """T_p of the contexts is in the graph, and their licence in the manifest."""
    manifest = store.verify(bundle)
    licences = {weight.component: weight.license for weight in manifest.weights}
    assert licences == {"perceptual": "CC0-1.0 AND Apache-2.0", "clip_text": "CC0-1.0"}
    assert manifest.perceptual.alpha == (0.8, 0.7, 0.65)
    assert graph_of(bundle, "perceptual").get_inputs()[0].shape == [2, 3, 64, 64]
    t_p, reference = published_t_p(surgery(clip), contexts), Reference(clip)
    assert_graph(bundle, lambda image: reference.tokens(image, 6, "vv"), clip, t_p, 1e-4)


@pytest.mark.parametrize(
    ("compute", "bound"), [("fp32", 1e-4), pytest.param("fp16", 2e-2, marks=pytest.mark.slow)]
)
def test_command_on_a_resnet(clip, folder, tmp_path, compute, bound):
    state = clip_files.with_text_of(clip, clip_files.random_resnet())
    path = tmp_path / "RN.pt"
    clip_files.save_torchscript(state, path)
    out = tmp_path / "bundle"
    precision = ("--weights", compute, "--compute", compute)
    result = invoke("--checkpoint", path, "--out", out, "--tokenizer", folder, *precision)
    assert result.exit_code == 0, result.output
    manifest = store.verify(out)
    assert (manifest.perceptual.attention, manifest.perceptual.grid) == ("vv", 2)
    assert graph_of(out, "perceptual").get_inputs()[0].shape == ["b", 3, 64, 64]
    t_p = antonym_t_p(surgery(clip), read_tokenizer(folder, clip_files.VOCABULARY))
    assert_graph(out, ResNetReference(state).tokens, clip, t_p, bound)


def test_weights_in_single_precision_are_not_computed_with_in_half(folder, tmp_path):
    result = invoke("--checkpoint", folder, "--out", tmp_path / "b", "--weights", "fp32", "--compute", "fp16")
    assert result.exit_code == 1
    assert "leave --weights at fp16" in result.output
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "bound"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_full_size(folder, tmp_path, weights, bound):
    """ViT-B/16 at 224; the text side is small here, its full size is compared in test_clip_loading.py."""
    config, small = clip_files.full_config("ViT-B/16"), clip_files.small_config()
    config.text_config = small.text_config
    clip = clip_files.random_clip(config)
    t_p = torch.randn(4, 2, 512, generator=torch.Generator().manual_seed(10))
    words = read_tokenizer(folder, clip_files.VOCABULARY)
    source, said = Source("a random model", "CC0-1.0"), []
    write_bundle(
        tmp_path / "b", surgery(clip), t_p, words, source, PUBLISHED_ALPHA, weights, Batch(1, 2), said.append
    )
    assert len(said) == 2
    reference = Reference(clip)
    assert_graph(tmp_path / "b", lambda image: reference.tokens(image, 6, "vv"), clip, t_p, bound, count=1)
    megabytes = (tmp_path / "b" / "components" / "perceptual.onnx").stat().st_size / 1e6
    assert megabytes == pytest.approx(86.2 * (4 if weights == "fp32" else 2), rel=0.02)


def test_the_bundle_assesses(bundle):
    """With both scorings, from the same weights, more pictures than the graph takes at a time."""
    pictures = [np.random.default_rng(i).integers(0, 256, (80, 120, 3), np.uint8) for i in range(3)]
    scores = {}
    with Assessor.load(bundle, device="cpu", threads=1) as assessor:
        for scoring in ("calibrated", "published"):
            options = AssessOptions(scoring=scoring)
            found = list(assessor.assess_batch(pictures, "a red cat, good photo", options))
            scores[scoring] = [assessment.perceptual for assessment in found]
            assert found[0].perceptual_map.shape == (80, 120)
            assert all(0 <= assessment.alignment <= 1 for assessment in found)
    for values in scores.values():
        assert len(set(values)) == 3
        assert all(0 <= value <= 1 for value in values)
    assert scores["calibrated"] != scores["published"]


# --- what goes wrong is one sentence


@pytest.mark.parametrize("text", ["1..8", " 4 ", "2..2"])
def test_batch(text):
    assert Batch.parse(text) == {"1..8": Batch(1, 8), " 4 ": Batch(4, 4), "2..2": Batch(2, 2)}[text]


@pytest.mark.parametrize("text", ["", "0", "8..1", "1..", "a", "1...8", "-1", "0..4"])
def test_wrong_batch(text):
    with pytest.raises(ValueError, match=r"N or MIN\.\.MAX"):
        Batch.parse(text)


def failed(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_failures(folder, tmp_path):
    out = tmp_path / "out"
    assert "there is no checkpoint" in failed("--checkpoint", tmp_path / "gone.pt", "--out", out)
    assert "patches of 16 pixels: take 96" in failed("--checkpoint", folder, "--out", out, "--size", 100)
    assert "the size 0 is no multiple" in failed("--checkpoint", folder, "--out", out, "--size", 0)
    assert "N or MIN..MAX" in failed("--checkpoint", folder, "--out", out, "--batch", "many")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert "is no CLIP" in failed("--checkpoint", tmp_path / "x.safetensors", "--out", out)
    assert not out.exists()
    assert "PQ-overall.pth" in failed("--checkpoint", folder, "--out", out, "--contexts", tmp_path)
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("vocab.json", "merges.txt"))
    assert "give --tokenizer" in failed("--checkpoint", bare, "--out", out)
    assert "is not empty" in failed("--checkpoint", folder, "--out", bare)
