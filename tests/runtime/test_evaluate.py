"""Evaluation over a database: correlations against scipy, resuming, unreadable pictures, the papers' figures."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import optimize, special, stats

from grefine_rt import Assessor, OptionError, OutputError
from grefine_rt.evaluation import correlation
from grefine_rt.evaluation.databases import DATASETS, Rated
from grefine_rt.evaluation.evaluate import Agreement, Scored, agreements, score_all, thin_out
from grefine_rt.evaluation.published import REMARK, published, remarks
from tests.support import assess_bundle as small
from tests.support import fake_bundle

HEADER = ["name", "prompt", "adj1", "adj2", "style", "mos_quality", "std_quality", "mos_align", "std_align"]
COUNT = 12


def rows(kind, count, seed):
    """Scores and opinions: related by a curve, loosely, inversely, with ties, or not at all."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=count)
    y = 1 + 4 / (1 + np.exp(-1.5 * x)) + rng.normal(size=count) * (0.2 if kind == "curve" else 0.9)
    return {
        "curve": (100 + 7 * x, y),
        "loose": (x / 50, y),
        "inverse": (-x, y),
        "ties": (np.round(x, 1), np.round(y)),
        "unrelated": (rng.permutation(x), y),
    }[kind]


KINDS = ["curve", "loose", "inverse", "ties", "unrelated"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [5, 40, 700])
def test_correlations_are_those_of_scipy(kind, count):
    x, y = rows(kind, count, count)
    assert correlation.plcc(x, y) == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-12)
    assert correlation.srcc(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)
    assert correlation.krcc(x, y) == pytest.approx(stats.kendalltau(x, y)[0], abs=1e-12)


@pytest.mark.parametrize("kind", ["curve", "loose", "inverse", "ties"])
@pytest.mark.parametrize("seed", range(5))
def test_the_logistic_fits_as_well_as_scipys(kind, seed):
    x, y = rows(kind, 300, seed)

    def curve(x, high, low, middle, width):
        return (high - low) / (1 + np.exp(-(x - middle) / np.abs(width))) + low

    ends = (y.max(), y.min()) if kind != "inverse" else (y.min(), y.max())
    best, _ = optimize.curve_fit(curve, x, y, p0=[*ends, x.mean(), x.std() / 4], maxfev=20_000)
    ours = correlation.fit_logistic(x, y)
    np.testing.assert_allclose(correlation.logistic(x, ours), curve(x, *ours), atol=1e-12)
    error, least = (((curve(x, *p) - y) ** 2).sum() for p in (ours, best))
    assert error <= least * (1 + 1e-6)
    assert correlation.plcc_fitted(x, y) == pytest.approx(stats.pearsonr(curve(x, *best), y)[0], abs=1e-5)


def small_set(rng):
    """8 to 39 scores with opinions along a curve, or without any relation; some scores lie far out."""
    count = int(rng.integers(8, 40))
    x = rng.normal(size=count)
    y = 1 + 4 / (1 + np.exp(-(x - rng.normal()) / rng.uniform(0.05, 1)))
    y = y + rng.normal(0, rng.uniform(0.05, 1.2), count) if rng.random() > 0.2 else rng.normal(size=count)
    for _ in range(int(rng.integers(0, 4))):
        x[rng.integers(count)] = rng.normal() * 10 ** rng.uniform(0.5, 3)
    return x, y


def scipys_best(x, y):
    """The least squared error that scipy finds from three starts."""
    z = (x - x.mean()) / x.std()
    ends = (y.max(), y.min()) if np.corrcoef(x, y)[0, 1] >= 0 else (y.min(), y.max())

    def off(q):
        return (q[0] - q[1]) * special.expit((z - q[2]) / np.exp(np.clip(q[3], -40, 40))) + q[1] - y

    starts = [(0.0, 0.25), (float(np.median(z)), 0.05), (float(np.quantile(z, 0.8)), 1.0)]
    ends_of = [
        optimize.least_squares(off, [*ends, m, np.log(w)], method="lm", max_nfev=300) for m, w in starts
    ]
    return min(2 * end.cost for end in ends_of)


@pytest.mark.parametrize(
    "count", [pytest.param(40, id="40"), pytest.param(1000, id="1000", marks=pytest.mark.slow)]
)
def test_small_sets_with_scores_far_out_find_the_optimum(count):
    """Never 1e-3 of the opinions' variance above the best of scipy's ends."""
    rng = np.random.default_rng(11)
    for _ in range(count):
        x, y = small_set(rng)
        error = ((correlation.logistic(x, correlation.fit_logistic(x, y)) - y) ** 2).sum()
        assert error <= scipys_best(x, y) + 1e-3 * ((y - y.mean()) ** 2).sum()


def test_the_fit_straightens_what_is_bent():
    x = np.linspace(-6, 6, 200)
    y = np.tanh(x)
    assert correlation.plcc(x, y) < 0.95
    assert correlation.plcc_fitted(x, y) == pytest.approx(1, abs=1e-9)
    assert correlation.plcc_fitted(-x, y) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    "measure", [correlation.plcc, correlation.srcc, correlation.krcc, correlation.plcc_fitted]
)
def test_a_constant_row_has_no_correlation(measure):
    for value in (1.0, 0.1):  # the mean of 0.1 six times is not 0.1
        assert np.isnan(measure([value] * 6, range(6)))
    with pytest.raises(ValueError, match="two rows of one length"):
        measure([1.0, 2.0], [1.0])


def test_the_papers_tables():
    """The sums, and what the papers say of their tables in words."""
    counts = {dataset: Counter(row.table for row in published(dataset)) for dataset in DATASETS}
    assert counts == {
        "agiqa-1k": {"IP-IQA, Table 1": 13, "IP-IQA, Table 3": 5},
        "agiqa-3k": {
            "G-Refine, Table 6": 7,
            "G-Refine, Table 7": 7,
            "IP-IQA, Table 1": 13,
            "IP-IQA, Table 2": 5,
            "IP-IQA, Table 3": 5,
        },
        "aigiqa-20k": {"G-Refine, Table 6": 7, "G-Refine, Table 7": 7},
    }
    for dataset in ("agiqa-1k", "agiqa-3k"):  # the last row of the ablation is the whole method
        first, third = (
            [row for row in published(dataset) if row.table == f"IP-IQA, Table {number}"][-1]
            for number in (1, 3)
        )
        assert (first.srcc, first.plcc, first.krcc) == (third.srcc, third.plcc, third.krcc)
    ours = {(row.dataset, row.score, row.opinion): row.srcc for row in map_all() if row.score}
    assert ours == {
        ("agiqa-1k", "ip_iqa_quality", "quality"): 0.8401,
        ("agiqa-3k", "ip_iqa_quality", "quality"): 0.8634,
        ("agiqa-3k", "ip_iqa_alignment", "alignment"): 0.7578,
        ("agiqa-3k", "perceptual", "quality"): 0.7054,
        ("agiqa-3k", "alignment", "alignment"): 0.7303,
        ("aigiqa-20k", "perceptual", "quality"): 0.7073,
        ("aigiqa-20k", "alignment", "quality"): 0.6117,
    }


def map_all():
    return [row for dataset in DATASETS for row in published(dataset)]


@pytest.fixture
def database(tmp_path):
    """AGIQA-3K's layout with pictures whose share of poor patches is what lowers their opinion; two do not
    open, and one has no prompt."""
    root = tmp_path / "agiqa"
    (root / "images").mkdir(parents=True)
    lines = [HEADER]
    for index in range(COUNT):
        poor = index % 6
        tiles = ["poor"] * poor + ["house"] * (8 - poor)
        width, height = 64 + 8 * index, 128 - 4 * index
        Image.fromarray(fake_bundle.scene([tiles, tiles], width, height)).save(
            root / "images" / f"{index}.png"
        )
        prompt = "" if index == 9 else ("a house", "a tree")[index % 2]
        lines.append([f"{index}.png", prompt, "", "", "", 5 - poor / 2, 0.1, 4 - 3 * (index % 2), 0.1])
    (root / "images" / "4.png").write_bytes(b"no picture")
    (root / "images" / "7.png").unlink()
    with (root / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return root


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_compares_with_opinions_and_papers(run, fake, database, tmp_path):
    out = tmp_path / "scores.csv"
    done = run("evaluate", "--dataset", "agiqa-3k", "--root", database, "--csv", out, "--json", "--batch", 5)
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert (result["pictures"], result["assessed"]) == (COUNT, COUNT - 3)
    assert [row["picture"] for row in result["failed"]] == ["4.png", "7.png", "9.png"]
    assert "not an image" in result["failed"][0]["error"]
    assert "There is no image" in result["failed"][1]["error"]
    assert "The prompt is empty" in result["failed"][2]["error"]
    found = {(row["score"], row["opinion"]): row for row in result["agreement"]}
    assert len(found) == 10
    assert found["perceptual", "quality"]["srcc"] > 0.99
    assert found["alignment", "alignment"]["plcc_fitted"] > 0.99
    assert found["perceptual", "quality"]["pictures"] == COUNT - 3
    assert len(result["published"]) == 37
    assert result["remarks"] == [REMARK]

    lines = table(out)
    assert [line["picture"] for line in lines] == [f"{index}.png" for index in range(COUNT)]
    good = [line for line in lines if not line["error"]]
    values = {name: [float(line[name]) for line in good] for name in ("perceptual", "mos_quality")}
    srcc = stats.spearmanr(values["perceptual"], values["mos_quality"])[0]
    assert found["perceptual", "quality"]["srcc"] == pytest.approx(srcc, abs=1e-9)

    told = run("evaluate", "--dataset", "agiqa-3k", "--root", database)
    assert told.exit_code == 0
    assert "9 of 12 pictures assessed" in told.stdout
    assert "Agreement with the opinions on alignment" in told.stdout
    assert "perceptual (PQ-Map)" in told.stdout
    assert "0.7303" in told.stdout
    assert REMARK in " ".join(told.stdout.split())  # lines are as wide as the terminal
    assert "4.png was left out: The file" in told.stderr


def test_ip_iqas_own_figures_carry_their_remark():
    assert "best epoch on the test side" in REMARK
    for dataset, own in (("agiqa-1k", True), ("agiqa-3k", True), ("aigiqa-20k", False)):
        rows = published(dataset)
        assert any(row.table.startswith("IP-IQA") for row in rows) is own
        assert remarks(rows) == ((REMARK,) if own else ())


def test_a_run_goes_on_where_it_was_cut_off(run, fake, database, tmp_path):
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    asked = ["evaluate", "--dataset", "agiqa-3k", "--root", database, "--batch", 1, "--json", "--csv"]
    first = run(*asked, whole)
    everything = fake.engines["perceptual"].calls
    text = whole.read_text()
    cut.write_text(text[: text.index("6.png") + 30])  # in the middle of a row
    done = run(*asked, cut)
    assert json.loads(done.stdout) == json.loads(first.stdout)
    assert sorted(cut.read_text().splitlines()) == sorted(text.splitlines())
    # 0 to 3 and 5 were there; 4 had an error and is tried again.
    assert fake.engines["perceptual"].calls - everything == everything - 5


def test_a_picture_that_was_mended_is_assessed_on_going_on(run, fake, database, tmp_path):
    out = tmp_path / "scores.csv"
    asked = ["evaluate", "--dataset", "agiqa-3k", "--root", database, "--csv", out, "--json"]
    run(*asked)
    (database / "images" / "4.png").write_bytes((database / "images" / "3.png").read_bytes())
    result = json.loads(run(*asked).stdout)
    assert (result["assessed"], [row["picture"] for row in result["failed"]]) == (10, ["7.png", "9.png"])
    assert len({line["picture"] for line in table(out)}) == len(table(out)) == COUNT


def items(folder, count):
    made = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.fromarray(fake_bundle.scene([["house", "poor"]], 32 + index, 32)).save(path)
        made.append(Rated(path, "a house", "a house", {"quality": float(index)}))
    return made


def test_every_row_is_written_as_soon_as_it_is_there(tmp_path):
    out, seen = tmp_path / "scores.csv", []
    score_all(
        Assessor(fake_bundle.Bundle()),
        items(tmp_path, 5),
        table=out,
        batch=2,
        on_progress=lambda done, total: seen.append((done, total, len(table(out)))),
    )
    assert seen == [(0, 5, 0), (2, 5, 2), (4, 5, 4), (5, 5, 5)]


def test_a_table_of_others_is_left_as_it_is(tmp_path, database):
    made, assessor = items(tmp_path, 2), Assessor(fake_bundle.Bundle())
    out = tmp_path / "scores.csv"
    score_all(assessor, made, table=out)
    other = fake_bundle.Bundle()
    object.__setattr__(other.manifest, "version", "2")
    before = out.read_text()
    with pytest.raises(
        OptionError, match='was made by "fake 1 calibrated penalised phrases", not by "fake 2'
    ):
        score_all(Assessor(other), made, table=out)
    assert out.read_text() == before
    published_table = database / "data.csv"
    before = published_table.read_text()
    with pytest.raises(OptionError, match="no table of scores of this command"):
        score_all(assessor, made, table=published_table)
    assert published_table.read_text() == before
    out.write_text(out.read_text().replace("0.", "zero."))
    with pytest.raises(OptionError, match="has a damaged row"):
        score_all(assessor, made, table=out)
    with pytest.raises(OutputError, match="cannot be written"):
        score_all(assessor, made, table=tmp_path / "none" / "scores.csv")


def test_a_part_of_a_database_is_spread_over_it():
    made = [Rated(Path(f"{index}.png"), "", "", {}) for index in range(10)]
    assert [item.path.name for item in thin_out(made, 4)] == ["0.png", "2.png", "5.png", "7.png"]
    assert thin_out(made, None) == thin_out(made, 99) == made
    with pytest.raises(OptionError, match="'limit' must be 1 or more"):
        thin_out(made, 0)


def test_what_has_no_correlation_is_none():
    scored = [
        Scored("a", {"quality": 1.0}, {"perceptual": 0.5}),
        Scored("b", {"quality": 2.0}, {"perceptual": 0.5}),
        Scored("c", {"quality": 2.0}, {}, "It is damaged."),
    ]
    assert agreements(scored) == [Agreement("perceptual", "quality", 2, None, None, None, None)]
    assert agreements(scored[2:]) == []


def test_scores_of_ip_iqa_and_the_reward_are_evaluated_too(tmp_path, run):
    folder = small.save(tmp_path / "bundle", reward=True)
    root = tmp_path / "db"
    root.mkdir()
    rng = np.random.default_rng(1)
    lines = [HEADER]
    for index in range(8):
        Image.fromarray(rng.integers(0, 256, (40, 32, 3), np.uint8)).save(root / f"{index}.png")
        lines.append([f"{index}.png", "a red house", "", "", "", rng.uniform(0, 5), 0, rng.uniform(0, 5), 0])
    with (root / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    done = run(
        *("evaluate", "--dataset", "agiqa-3k", "--root", root, "--bundle", folder, "--device", "cpu"),
        *("--threads", 1, "--limit", 6, "--json", "--csv", tmp_path / "scores.csv"),
    )
    result = json.loads(done.stdout)
    assert {row["score"] for row in result["agreement"]} >= {
        "ip_iqa_quality",
        "ip_iqa_alignment",
        "image_reward",
    }
    assert result["assessed"] == 6
    for name in ("ip_iqa_quality", "image_reward"):
        assert all(float(line[name]) for line in table(tmp_path / "scores.csv"))


def test_what_is_missing_is_one_line(run, fake, tmp_path):
    done = run("evaluate", "--dataset", "agiqa-1k", "--root", tmp_path)
    assert done.exit_code == 1
    assert done.stderr.startswith('error: There is no "AIGC_MOS_Zscore.xlsx" in')
    assert done.stderr.count("\n") == 1
    done = run("evaluate", "--dataset", "agiqa-1k", "--root", tmp_path, "--csv", tmp_path / "none" / "s.csv")
    assert (done.exit_code, "There is no folder" in done.stderr) == (1, True)
