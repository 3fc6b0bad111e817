import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import quality
from benchmarks.figures import FIGURES, STRANGE, details, passes
from benchmarks.judge import Judge
from benchmarks.outcomes import Outcome, Repair, Seen, Variant, repair_of, seen, try_variants
from benchmarks.readings import ABLATION_FIGURES, ABLATIONS, READINGS, variants
from grefine_export.mini import heldout
from grefine_rt import PlanOptions, RefineOptions, Refiner, with_mask
from tests.support import fake_bundle

KEYS = {
    "autoencoder_psnr_db": 34,
    "autoencoder_psnr_db_unseen": None,
    "redrawn_sharpness": (0.85, 1.1),
    "perceptual_srcc": 0.88,
    "perceptual_srcc_unseen": None,
    "perceptual_map_auc": 0.96,
    "perceptual_map_auc_unseen": 0.94,
    "alignment_auc": 0.985,
    "alignment_auc_unseen": 0.95,
    "alignment_phrase_accuracy": 0.93,
    "alignment_phrase_accuracy_unseen": None,
    "refine_rmse_reduction": 0.55,
    "refine_rmse_reduction_unseen": 0.40,
    "refine_rmse_reduction_worst": 0.30,
    "refine_alignment_success": 0.85,
    "refine_alignment_success_unseen": None,
    "refine_alignment_success_missing": 0.80,
    "refine_others_kept": 0.99,
    "refine_others_kept_unseen": None,
    "clean_skip_rate": 0.97,
    "clean_skip_rate_unseen": None,
    "clean_psnr_db": 32,
    "outside_mask_identical": True,
    "deterministic": True,
}


@pytest.fixture(scope="module")
def refiner():
    return Refiner(fake_bundle.Bundle())


@pytest.fixture(scope="module")
def judge():
    return Judge.load()


@pytest.fixture(scope="module")
def results(refiner, judge):
    return quality.measure(refiner, judge, some(), seed=1, readings_limit=5)


@functools.cache
def some():
    return list(heldout.samples(10))


def first(category):
    return next(one for one in some() if one.category == category)


def see(
    perceptual=1.0, alignment=1.0, map_auc=None, first_phrase=None, worst_phrase=None, round_trip_db=None
):
    return Seen(perceptual, alignment, map_auc, first_phrase, worst_phrase, round_trip_db)


def repair(**facts):
    plain = dict.fromkeys(
        ("rmse_reduction", "present_before", "present", "outside_identical"), None
    ) | dict.fromkeys(("perceptual", "alignment", "seconds"), 0.5)
    return Repair(**(plain | {"psnr": 40.0, "others": 0, "others_kept": 0} | facts))


def outcome(category, what=None, done=None, mos=5.0, misaligned=None, redraws=False, defect="", unseen=()):
    return Outcome(0, category, defect, misaligned, mos, what or see(), redraws, done, frozenset(unseen))


def value(key, outcomes):
    return FIGURES[key].of(outcomes).value


def test_results_have_every_key_of_the_issue_and_fit_json(results):
    assert {key: results["bars"][key] for key in results["bars"]} == KEYS
    for key in KEYS:
        assert results[key] is None or isinstance(results[key], float | bool), key
        assert results["passed"][key] == passes(results[key], KEYS[key])
        assert results["samples"][key] >= 0
    assert json.loads(json.dumps(results, allow_nan=False))["deterministic"] is True
    assert results["outside_mask_identical"] is True
    assert results["seconds_per_refine"] > 0


def test_results_have_every_reading_and_ablation(results):
    assert {group: set(row["choices"]) for group, row in results["readings"].items()} == {
        "scoring": {"calibrated", "published"},
        "adjective_rule": {"penalised", "printed"},
        "joining": {"union", "product"},
        "missing_region": {"ancestor", "printed", "free"},
        "strength_rule": {"deficit", "printed"},
        "binarisation": {"threshold", "otsu"},
        "redraw": {"poor", "misshapen"},
        "decoding": {"difference", "plain", "quality"},
        "color_fix": {"whole", "quality", "off"},
    }
    for row in results["readings"].values():
        assert row["default"] in row["choices"]
    assert set(results["ablations"]) == {"input", *ABLATIONS}
    assert set(results["ablations"]["PQ"]) == set(ABLATION_FIGURES)
    # The stand-in redraws all that it is asked to in a colour it likes: the rows come from their own options.
    after = {name: row["perceptual_after"]["value"] for name, row in results["ablations"].items()}
    assert after["no mask"] > after["stage 2 only"]
    assert results["ablations"]["no mask"]["clean_psnr_db"]["value"] < 20


def test_the_other_attention_has_a_row_of_its_own(refiner, judge):
    other = Refiner(fake_bundle.Bundle())
    perceptual = dataclasses.replace(other.bundle.manifest.perceptual, attention="vv-normalised")
    other.bundle.manifest = dataclasses.replace(other.bundle.manifest, perceptual=perceptual)
    look = other.bundle.engines["perceptual"]  # type: ignore[attr-defined]
    upside_down = type(look)(lambda image: look.run({"image": image[:, :, ::-1]}), look.inputs)
    other.bundle.engines |= dict.fromkeys(("perceptual", "alignment_image"), upside_down)  # type: ignore[attr-defined]
    results = quality.measure(refiner, judge, some(), readings_limit=1, other_attention=other)
    row = results["readings"]["attention"]
    assert row["default"] == "vv"
    assert set(row["choices"]) == {"vv", "vv-normalised"}
    main, turned = (row["choices"][name]["perceptual_map_auc"]["value"] for name in ("vv", "vv-normalised"))
    assert main == results["perceptual_map_auc"]
    assert turned != main


def test_readings_are_left_out_on_demand(refiner, judge):
    results = quality.measure(refiner, judge, some()[:2], readings_limit=0)
    assert "readings" not in results
    assert "ablations" not in results


def test_every_choice_names_real_figures():
    assert all(key in FIGURES for reading in READINGS.values() for key in reading.figures)
    for name, variant in variants().items():
        assert variant.repairs or variant.plans, name


def test_scores_and_bars():
    damaged = [outcome("local", see(perceptual=p), mos=m) for p, m in ((0.2, 2), (0.3, 3), (0.9, 4))]
    assert value("perceptual_srcc", damaged) == pytest.approx(1)
    assert value("perceptual_srcc", damaged[:1]) is None
    maps = [outcome("local", see(map_auc=auc)) for auc in (0.8, 0.9, None)]
    assert value("perceptual_map_auc", maps) == pytest.approx(0.85)
    assert passes(0.85, 0.85)
    assert not passes(0.84, 0.85)
    assert passes(None, 0.85) is None
    assert not passes(False, True)


def test_alignment_figures():
    sound = [outcome("clean", see(alignment=a)) for a in (0.9, 0.6)]
    wrong = [outcome("alignment", see(alignment=a), misaligned="missing") for a in (0.7, 0.2)]
    elsewhere = [outcome("mixed", see(alignment=0.99), misaligned="missing")]
    assert value("alignment_auc", [*sound, *wrong, *elsewhere]) == 0.75
    assert value("alignment_auc", sound) is None
    named = [outcome("alignment", see(first_phrase=right)) for right in (True, True, False, True)]
    assert value("alignment_phrase_accuracy", named) == 0.75


def test_repair_figures():
    falls = [outcome("local", done=repair(rmse_reduction=r)) for r in (-1.0, 0.5, 0.6)]
    assert value("refine_rmse_reduction", falls) == 0.5
    done = [repair(present=p, others=2, others_kept=k) for p, k in ((True, 2), (False, 1))]
    found = [outcome("alignment", done=one) for one in done]
    assert value("refine_alignment_success", found) == 0.5
    assert value("refine_others_kept", found) == 0.75
    clean = [outcome("clean", done=repair(psnr=p), redraws=p < 30) for p in (20.0, 33.0, 50.0)]
    assert value("clean_psnr_db", clean) == 33
    drawn = [outcome("local", done=repair(gradients=pair)) for pair in ((4.0, 8.0), (5.0, 2.0), None)]
    assert value("redrawn_sharpness", drawn) == pytest.approx(0.9)
    assert passes(0.9, (0.85, 1.1))
    assert not passes(1.2, (0.85, 1.1))
    trips = [outcome("clean", see(round_trip_db=db)) for db in (30.0, 34.0, 35.0)]
    assert value("autoencoder_psnr_db", trips) == 34
    assert value("clean_skip_rate", clean) == pytest.approx(2 / 3)
    told = [outcome("local", done=repair(outside_identical=same)) for same in (True, None, False)]
    assert value("outside_mask_identical", told) is False
    assert value("outside_mask_identical", told[:2]) is True
    assert value("outside_mask_identical", told[1:2]) is None


def test_what_training_never_saw_is_counted_apart():
    usual = [outcome("local", done=repair(rmse_reduction=r), defect="blur") for r in (0.5, 0.6)]
    hard = [outcome("local", done=repair(rmse_reduction=0.2), defect="noise")]
    strange = [
        outcome("local", done=repair(rmse_reduction=r), defect="smear", unseen=["damage"]) for r in (0.0, 0.1)
    ]
    reworded = [outcome("local", done=repair(rmse_reduction=0.7), defect="blur", unseen=["prompt"])]
    everything = [*usual, *hard, *strange, *reworded]
    assert value("refine_rmse_reduction", everything) == pytest.approx(0.55)
    assert value("refine_rmse_reduction_worst", everything) == 0.2
    assert value("refine_rmse_reduction_unseen", everything) == pytest.approx(0.05)
    assert details(everything)["refine_rmse_reduction_unseen/style"]["value"] is None
    assert {name.removesuffix("_unseen") for name in FIGURES if name.endswith("_unseen")} == set(STRANGE)


def test_details_know_the_ceiling_of_tied_scores():
    half = [outcome("clean")] * 10 + [outcome("global", mos=1 + k / 10) for k in range(10)]
    assert 0.9 < details(half)["perceptual_srcc_ceiling"]["value"] < 0.97
    assert details(half)["perceptual_srcc_damaged_only"]["value"] is None


def test_a_perfect_repair_scores_as_one(refiner, judge):
    for category in ("local", "alignment"):
        sample = first(category)
        result = refiner.refine(sample.image, sample.prompt)
        perfect = dataclasses.replace(result, image=Image.fromarray(sample.truth))
        facts = repair_of(sample, perfect, judge)
        nothing = repair_of(sample, dataclasses.replace(result, image=Image.fromarray(sample.image)), judge)
        assert nothing.psnr == 100
        if category == "local":
            assert facts.rmse_reduction == 1
            assert nothing.rmse_reduction == 0
        else:
            assert (facts.present_before, facts.present) == (False, True)
            assert nothing.present is False
            assert nothing.others_kept == nothing.others


def test_a_change_outside_the_mask_is_seen(refiner, judge):
    sample = first("local")
    mask = np.zeros((128, 128), bool)
    mask[32:64, 32:64] = True
    assessment = refiner.assess(sample.image, sample.prompt)
    plan = with_mask(refiner.plan(assessment), mask)
    result = refiner.refine(sample.image, sample.prompt, plan=plan)
    assert repair_of(sample, result, judge).outside_identical is True
    stage1 = np.array(result.stage1)
    stage1[127, 127] ^= 1
    broken = dataclasses.replace(result, stage1=Image.fromarray(stage1))
    assert repair_of(sample, broken, judge).outside_identical is False


def test_seen_reads_phrases_in_their_order(refiner):
    sample = first("alignment")
    assessment = refiner.assess(sample.image, sample.prompt)
    wanted = next(p for p in assessment.phrases if sample.wanted.kind in p.text.split())
    right = dataclasses.replace(wanted, defect="noun", phrase_score=0.5)
    wrong = dataclasses.replace(wanted, text="the weather", defect="noun", phrase_score=0.9)
    facts = seen(sample, dataclasses.replace(assessment, phrases=(wrong, right)))
    assert (facts.first_phrase, facts.worst_phrase) == (False, True)
    sound = seen(sample, dataclasses.replace(assessment, phrases=()))
    assert (sound.first_phrase, sound.worst_phrase) == (False, False)
    assert seen(first("clean"), assessment).first_phrase is None


def test_equal_plans_make_one_picture(judge):
    refiner = Refiner(fake_bundle.Bundle())
    sample = first("local")
    same = {
        "one": Variant(RefineOptions(), ("local",)),
        "two": Variant(RefineOptions(plan=PlanOptions(joining="union")), ("local",)),
        "three": Variant(RefineOptions(plan=PlanOptions(stages=(2,))), ()),
    }
    tried = try_variants(refiner, judge, sample, same, seed=0)
    assert tried["one"].repair is tried["two"].repair is not None
    assert tried["three"].repair is None
    assert not tried["three"].redraws


def test_an_unknown_bundle_is_one_clear_sentence(capsys):
    assert quality.main(["--bundle", "no-such-bundle", "--limit", "1"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("Error: ")
    assert printed.err.count("\n") == 1


def test_the_command_prints_and_writes(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(quality.Refiner, "load", lambda *_: Refiner(fake_bundle.Bundle()))  # type: ignore[attr-defined]
    file = tmp_path / "quality.json"
    page = tmp_path / "quality.md"
    options = ["--limit", "5", "--readings-limit", "2", "--json", str(file), "--markdown", str(page)]
    assert quality.main(options) == 0
    lines = page.read_text().splitlines()
    titles = [line for line in lines if line.startswith("## ")]
    assert len(titles) == 4
    assert sum(line.startswith("|--") for line in lines) == 4  # one below each table's head
    assert any(line.startswith("| perceptual_srcc |") for line in lines)
    written = json.loads(file.read_text())
    assert KEYS.keys() <= written.keys()
    assert written["set"] == {"split": "test", "samples": 5, "seed": 0}
    assert written["judge"]["clean_recall"] >= 0.95
    printed = capsys.readouterr().out
    assert all(key in printed for key in KEYS)
    assert "no mask" in printed
    assert set(tmp_path.iterdir()) == {file, page}


def test_the_embedded_bundle_can_be_measured(judge):
    bundle = Path(__file__).parents[2] / "engines" / "mini"
    if not (bundle / "bundle.json").is_file():
        pytest.skip("engines/mini is not built yet")
    results = quality.measure(Refiner.load(bundle, "cpu", 1), judge, list(heldout.samples(6)))
    assert results["deterministic"] is True
    assert results["outside_mask_identical"] in (True, None)
