"""IP-IQA at run time: three graphs, any batch, names and units of its scores."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from grefine_rt import Assessor, BundleError
from grefine_rt.assess.scorers import ip_iqa
from grefine_rt.assess.scorers.base import Batch, scorers_of
from grefine_rt.bundle.manifest import Manifest
from tests.support import assess_bundle as small

PROMPTS = ["a red house", "tree", "a tall tree and a red house"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small.save(tmp_path_factory.mktemp("bundles") / "small")


def pictures(count=3):
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (small.SIDE, small.SIDE, 3), np.uint8) for _ in range(count)]


def expected(rgb, prompt):
    """What the three graphs must give together, in float64."""
    ids = [1, *(small.WORDS.index(word) for word in prompt.split()), 2]
    features = small.QA_TABLE[ids].max(axis=0)
    both = np.concatenate([small.tokens(rgb).max(axis=0), features])
    return both @ small.HEAD.astype(np.float64)


def test_scores_are_those_of_the_graphs(folder):
    images = pictures()
    with Assessor.load(folder, "cpu", threads=1) as assessor:
        found = [assessor.assess(*pair).ip_iqa for pair in zip(images, PROMPTS, strict=True)]
    for scores, rgb, prompt in zip(found, images, PROMPTS, strict=True):
        assert list(scores) == ["quality", "alignment"]
        np.testing.assert_allclose(list(scores.values()), expected(rgb, prompt), atol=1e-5)


def test_the_prompt_is_read_without_weights_and_tags(folder):
    (rgb,) = pictures(1)
    with Assessor.load(folder, "cpu", threads=1) as assessor:
        plain, weighted = (
            assessor.assess(rgb, text).ip_iqa for text in ("a red house", "a (red:1.3) house<lora:x:1>")
        )
    assert plain == weighted


def test_a_bundle_without_ip_iqa_says_none(tmp_path):
    folder = small.save(tmp_path / "without", ip_iqa=False)
    with Assessor.load(folder, "cpu", threads=1) as assessor:
        assert assessor.assess(pictures(1)[0], "tree").ip_iqa is None


def test_a_graph_with_another_number_of_scores_is_named(folder):
    with Assessor.load(folder, "cpu", threads=1) as assessor:
        bundle = assessor.bundle
        one = replace(
            bundle.manifest.scorers["ip_iqa"], settings={"resolution": small.SIDE, "outputs": ["quality"]}
        )
        with pytest.raises(BundleError, match="names 1 scores of IP-IQA, but its graph gives 2"):
            ip_iqa.Metric(bundle, one).score(Batch(pictures(1), ["tree"], ["tree"], np.zeros(0, np.float32)))


def read(change):
    """The metrics of a bundle whose manifest was changed; no file of it is there."""
    data = small.manifest()
    change(data)
    names = [*data["components"].values(), "tokenizers/words.json"]
    names += [
        file for metric in (data.get("scorers") or {}).values() for file in metric["components"].values()
    ]
    data["files"] = {name: {"size": 1, "sha256": "0" * 64} for name in names}
    manifest = Manifest.from_json(json.dumps(data))
    scorers_of(SimpleNamespace(manifest=manifest))
    return manifest


def old(data):
    """The form from before `scorers`: a section of its own, its parts among all others."""
    metric = data.pop("scorers")["ip_iqa"]
    data["components"] |= metric["components"]
    data["tokenizers"] |= metric["tokenizers"]
    data["ip_iqa"], data["image_reward"] = metric["settings"], None


def test_manifests_from_before_are_read():
    assert read(old) == read(lambda data: None)
    assert read(old).scorers["ip_iqa"].settings == {
        "resolution": small.SIDE,
        "outputs": ["quality", "alignment"],
    }
    assert read(old).components["ip_iqa_fusion"] == "components/ip_iqa_fusion.onnx"
    without = read(lambda data: data.update(scorers={}, ip_iqa=None))
    assert (dict(without.scorers), "ip_iqa_text" in without.tokenizers) == ({}, False)
    assert "scorers" in json.loads(read(old).to_json())


def test_a_manifest_written_is_read_again_with_each_metric_in_one_entry():
    manifest = read(lambda data: None)
    written = json.loads(manifest.to_json())
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert "ip_iqa_text" not in {**written["components"], **written["tokenizers"]}
    given = small.manifest()["scorers"]["ip_iqa"]
    given["tokenizers"]["ip_iqa_text"] = [{**small.TOKENIZER[0], "cleaning": "none", "prompts": "plain"}]
    assert written["scorers"] == {"ip_iqa": given}


def settings(**changes):
    return lambda data: data["scorers"]["ip_iqa"]["settings"].update(changes)


def part(kind, change):
    return lambda data: change(data["scorers"]["ip_iqa"][kind])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (old(d), d.update(ip_iqa=None)), "has the unknown component 'ip_iqa_fusion'"),
        (part("components", lambda c: c.pop("ip_iqa_text")), "has the unknown tokenizer of 'ip_iqa_text'"),
        (
            part("components", lambda c: c.pop("ip_iqa_image")),
            "lacks the component 'ip_iqa_image' of the metric",
        ),
        (part("tokenizers", lambda t: t.pop("ip_iqa_text")), "lacks the tokenizer of 'ip_iqa_text'"),
        (
            part("components", lambda c: c.update(ip_iqa_more="x")),
            "unknown component 'ip_iqa_more' of the metric",
        ),
        (
            part("components", lambda c: c.update(perceptual="x")),
            "gives the metric 'ip_iqa' the taken component",
        ),
        (
            lambda d: d["scorers"].update(rationality={"components": {}}),
            r"taken name of a metric in 'scorers\.rat",
        ),
        (
            lambda d: d["scorers"].update(beauty={"components": {}}),
            "has the metric 'beauty', which this version",
        ),
        (lambda d: d["scorers"].update(base={"components": {}}), "has the metric 'base', which this version"),
        (
            lambda d: d["scorers"].update({"..x": {"components": {}}}),
            "has the metric '..x', which this version",
        ),
        (settings(resolution=0), r"out of range in 'scorers\.ip_iqa\.settings\.resolution'"),
        (settings(outputs=["alignment"]), r"out of range in 'scorers\.ip_iqa\.settings\.outputs'"),
        (settings(outputs=["beauty"]), r"'beauty' at 'scorers\.ip_iqa\.settings\.outputs\.0'"),
        (settings(scale=[5, 0]), r"out of range in 'scorers\.ip_iqa\.settings\.scale'"),
        (lambda d: (old(d), d.update(ip_iqa=3)), r"3 at 'scorers\.ip_iqa\.settings' where Mapping"),
    ],
)
def test_bad_entries_are_refused(change, message):
    with pytest.raises(BundleError, match=message):
        read(change)
