"""`grefine-rt evaluate` on storybook pictures in AGIQA-3K's published layout, with the embedded bundle."""

import json

import pytest
from typer.testing import CliRunner

from grefine_export.mini.rated import write_database
from grefine_rt.bundle.store import list_bundles
from grefine_rt.cli import app

PROMPTS, VERSIONS = 20, 5


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    root = write_database(tmp_path_factory.mktemp("storybook"), PROMPTS, VERSIONS)
    (root / "storybook_0000_00.png").write_bytes(b"damaged")
    (root / "storybook_0001_00.png").unlink()
    return root


def evaluate(*arguments):
    asked = ["evaluate", "--dataset", "agiqa-3k", "--device", "cpu", "--threads", "1", "--json", *arguments]
    done = CliRunner().invoke(app, list(map(str, asked)))
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif("mini" not in list_bundles(), reason="the embedded bundle is not trained yet")
def test_the_embedded_bundles_scores_follow_the_opinions(database, tmp_path):
    out = tmp_path / "scores.csv"
    result = evaluate("--root", database, "--csv", out)
    assert (result["pictures"], result["assessed"]) == (PROMPTS * VERSIONS, PROMPTS * VERSIONS - 2)
    assert [row["picture"] for row in result["failed"]] == ["storybook_0000_00.png", "storybook_0001_00.png"]
    found = {(row["score"], row["opinion"]): row for row in result["agreement"]}
    assert found["perceptual", "quality"]["srcc"] > 0.5
    assert found["alignment", "alignment"]["srcc"] > 0.3
    assert found["perceptual", "quality"]["srcc"] > found["perceptual", "alignment"]["srcc"]
    assert found["alignment", "alignment"]["srcc"] > found["alignment", "quality"]["srcc"]
    assert len(out.read_text().splitlines()) == 1 + PROMPTS * VERSIONS
    assert evaluate("--root", database, "--csv", out) == result
