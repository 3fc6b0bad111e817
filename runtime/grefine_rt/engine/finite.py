"""Outputs of graphs must be numbers: nobody can tell a picture or a score made of a NaN from a sound one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from grefine_rt.arrays import Array
from grefine_rt.errors import BundleError


def finite(component: str, values: Array, what: str = "values") -> Array:
    """`values` of any shape, as the graph of `component` gave them.

    Raises BundleError, with the component's name, where one of them is NaN or infinite. No copy is made.
    """
    # A NaN spreads through min and max.
    if values.size and not (math.isfinite(values.min()) and math.isfinite(values.max())):
        raise BundleError(
            f"{component}: the graph gave {what} that are NaN or infinite, so nothing was made of them; check the "
            f"bundle with 'grefine-rt bundle verify', or run it on another device or at a higher precision."
        )
    return values


def all_finite(component: str, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a graph by name; raises as `finite`."""
    return {name: finite(component, values, f"values of '{name}'") for name, values in outputs.items()}
