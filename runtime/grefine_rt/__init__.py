"""grefine-rt: finds where a generated picture is poor or misses its prompt, and repairs only that.

    from grefine_rt import Refiner

    with Refiner.load("mini") as refiner:
        result = refiner.refine("picture.png", "a red house under a yellow sun", seed=7)
    result.image.save("better.png")

`Assessor` only assesses: scores, maps and phrases of one picture or of many, from fewer parts.

Everything public is named here and loaded on first use, so importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from grefine_rt.errors import (
    BundleError,
    Cancelled,
    DatasetError,
    DeviceError,
    DomainError,
    GRefineError,
    ImageError,
    MemoryLimitError,
    OptionError,
    OutputError,
    PromptError,
)

if TYPE_CHECKING:
    from grefine_rt.assess.alignment import PhraseScore
    from grefine_rt.assess.indicator import Assessment, AssessOptions
    from grefine_rt.assessor import Assessor
    from grefine_rt.cancel import CancelToken
    from grefine_rt.plan.change import with_mask
    from grefine_rt.plan.costs import plan_costs
    from grefine_rt.plan.options import PlanOptions
    from grefine_rt.plan.plan import RefinePlan
    from grefine_rt.refiner import RefineOptions, Refiner, RefineResult

__version__ = "0.1.0"

__all__ = [
    "AssessOptions",
    "Assessment",
    "Assessor",
    "BundleError",
    "CancelToken",
    "Cancelled",
    "DatasetError",
    "DeviceError",
    "DomainError",
    "GRefineError",
    "ImageError",
    "MemoryLimitError",
    "OptionError",
    "OutputError",
    "PhraseScore",
    "PlanOptions",
    "PromptError",
    "RefineOptions",
    "RefinePlan",
    "RefineResult",
    "Refiner",
    "plan_costs",
    "with_mask",
]

_HOME = {
    "PhraseScore": "assess.alignment",
    "AssessOptions": "assess.indicator",
    "Assessment": "assess.indicator",
    "Assessor": "assessor",
    "PlanOptions": "plan.options",
    "RefinePlan": "plan.plan",
    "plan_costs": "plan.costs",
    "with_mask": "plan.change",
    "CancelToken": "cancel",
    "RefineOptions": "refiner",
    "RefineResult": "refiner",
    "Refiner": "refiner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'grefine_rt' has no attribute {name!r}")
    value = getattr(import_module(f"grefine_rt.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
