"""A refine call through both stages, and how far apart two results lie."""

import numpy as np

from grefine_rt import PlanOptions, RefineOptions, with_mask
from grefine_rt.bench import middle, picture
from grefine_rt.models.warm_up import PROMPT

SIDE = 128
ONE_DRAFT = RefineOptions(plan=PlanOptions(drafts=1))


def apart(result, expected):
    """The largest difference, relative to the largest value."""
    result, expected = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    assert result.shape == expected.shape
    return np.abs(result - expected).max() / np.abs(expected).max()


def work(refiner, seed=3, cancel=None, on_progress=None):
    """A refine call that goes through both stages, whatever the models think of the picture."""
    plan = with_mask(refiner.plan(picture(SIDE), PROMPT, ONE_DRAFT.plan), middle(SIDE))
    return refiner.refine(picture(SIDE), PROMPT, seed, ONE_DRAFT, plan, on_progress, cancel)
