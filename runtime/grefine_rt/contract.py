"""The contract of graphs and runtime beside names and shapes (ARCHITECTURE.md): schedules, the columns of a fused
step's coefficients, and sizes that graphs are made for."""

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
