"""What graphs and runtime promise each other beside names and shapes (ARCHITECTURE.md): schedules, the row of
coefficients of a fused step, what such a step makes of it, and sizes that graphs are made for."""

from collections.abc import Mapping

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.solvers import Prediction as Prediction
from grefine_rt.solvers import Schedule as Schedule
from grefine_rt.solvers import Solver as Solver
from grefine_rt.solvers import Spacing as Spacing

LATENT_SCALE = 8
"""Pixels along the side of a latent cell."""

PREVIOUS, NOISE, GUIDANCE, RESCALE = 5, 6, 7, 8
"""Columns of a coefficient row: factors of the previous clean estimate and of fresh noise, and both settings of
guidance."""
COLUMNS = 11

OTHERS = 4
"""Cells of other tiles that a graph attends to, by those of a tile, at most: a picture of twice a tile's side has so
many. Of larger ones, squares of cells are taken together."""
HIDDEN = 8
"""Cells that nothing attends to, for a picture run whole: kernels like a multiple of this many."""


def model_alone(row: Floats) -> Floats:
    """A coefficient row with which a step graph's `clean`, for one row of text, is what its UNet says."""
    plain = row.copy()
    plain[1:3], plain[GUIDANCE], plain[RESCALE:] = (0, 1), 1, 0
    return plain


def advance(
    negative: Floats, positive: Floats, row: Floats, arrays: Mapping[str, Floats]
) -> dict[str, Floats]:
    """What a step graph makes of its UNet's answers, in its order of operations: `next` and `clean`, (1, c, h, w).

    negative, positive: (1, c, h, w), for the negative prompt and for the prompt. row: of the graph's width, 8, 9 or 11.
    arrays: the graph's inputs; of these `sample` and, where it has them, `previous` and `noise`, or `mask`, `original`
    and `original_noise` are used. All float32.
    """
    guided = negative + row[GUIDANCE] * (positive - negative)
    if len(row) > RESCALE and row[RESCALE]:
        contrast = positive.std() / max(guided.std(), np.float32(1e-12))
        guided = guided * (1 + row[RESCALE] * (contrast - 1))
    sample = arrays["sample"]
    clean = row[1] * sample + row[2] * guided
    following = row[3] * sample + row[4] * clean
    for name, column in (("previous", PREVIOUS), ("noise", NOISE)):
        if name in arrays:
            following = following + row[column] * arrays[name]
    if "original" in arrays:
        outside = row[9] * arrays["original"] + row[10] * arrays["original_noise"]
        following = arrays["mask"] * following + (1 - arrays["mask"]) * outside
    return {"next": following, "clean": clean}
