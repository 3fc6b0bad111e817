import io
import json

import numpy as np
import pytest
from rich.console import Console

from benchmarks import borders
from grefine_export.mini import heldout
from grefine_rt import GRefineError
from grefine_rt.imaging.mask import feather
from tests.support.priced_refiner import priced_refiner

GREY = np.full((64, 64, 3), 120, np.uint8)
MASK = np.zeros((64, 64), bool)
MASK[16:40, 20:48] = True


def pasted(levels, feathered=0.0):
    """The grey picture with the mask's region brighter by so many levels."""
    weight = feather(MASK, feathered)[..., None]
    return np.rint(GREY + weight * levels).astype(np.uint8)


def test_a_jump_is_the_difference_across_the_border():
    assert borders.jump(GREY, MASK) == 0
    assert borders.jump(pasted(10), MASK) == 10
    assert borders.jump(pasted(10, 8), MASK) < 3, "a feather spreads it"
    assert np.isnan(borders.jump(GREY, np.ones_like(MASK)))


def test_figures_of_a_picture_that_was_brightened_in_the_mask():
    weight = feather(MASK, 4)
    hard = borders.measure(pasted(10), GREY, MASK, weight)
    assert hard == pytest.approx(
        {"jump": 10, "jump_within": 0, "step": 10, "rim_shift": 0, "rim_change": 0, "outside": 0, "beyond": 0}
    )
    soft = borders.measure(pasted(10, 4), GREY, MASK, weight)
    assert 0 < soft["rim_shift"] == soft["rim_change"] < 10
    assert 0 < soft["outside"] < soft["rim_change"]
    assert soft["beyond"] == 0
    assert soft["step"] < hard["step"]


def test_a_change_beyond_the_feather_is_found():
    wrong = pasted(10)
    wrong[0, 0, 1] += 3
    figures = borders.measure(wrong, GREY, MASK, feather(MASK, 4))
    assert figures["beyond"] == 3
    names = (borders.BEFORE, borders.PLAIN, borders.MATCHED)
    told = borders.summary([dict.fromkeys(names, figures), dict.fromkeys(names, figures | {"beyond": 0.0})])
    assert told["figures"][borders.MATCHED]["beyond"] == 3, "the largest counts, not the mean"
    assert told["unchanged_beyond_feather"] is False


def test_the_set_is_measured_and_shown():
    results = borders.run(priced_refiner(drafts=1), heldout.samples(5), 0)
    assert results["pictures"] > 0
    assert results["unchanged_beyond_feather"] is True
    json.dumps(results, allow_nan=False)
    figures = results["figures"]
    assert figures[borders.BEFORE]["outside"] == figures[borders.BEFORE]["rim_change"] == 0
    # The stand-in draws a green patch into everything: its border is a hard one.
    assert figures[borders.MATCHED]["step"] > figures[borders.BEFORE]["step"]
    out = io.StringIO()
    borders.show(results, Console(file=out, width=200))
    for key in borders.MEANINGS:
        assert f"| {key} " in out.getvalue()


def test_a_set_without_any_redrawing_is_one_sentence():
    with pytest.raises(GRefineError, match="redraws none"):
        borders.run(priced_refiner(), [], 0)
