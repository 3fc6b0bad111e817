"""`bundle.json`: what a bundle holds, and the constants that belong to its weights. Typed and strict."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from grefine_rt.bundle.sections import (
    Alignment,
    Cost,
    Domain,
    FileEntry,
    Inpaint,
    Metric,
    Perceptual,
    PictureDomain,
    Plan,
    Restore,
    TokenizerSpec,
    Weight,
)
from grefine_rt.bundle.strict import (
    HIGHEST,
    MENDS,
    check_ranges,
    read_strictly,
    refuse,
    short,
    with_metrics,
)
from grefine_rt.errors import BundleError, shown
from grefine_rt.readings import ColorFix, Decoding, Redraw

__all__ = [
    "ASSESS_COMPONENTS",
    "FILE_NAME",
    "FORMAT",
    "SECTION_COMPONENTS",
    "Alignment",
    "ColorFix",
    "Cost",
    "Decoding",
    "Domain",
    "FileEntry",
    "Inpaint",
    "Manifest",
    "Metric",
    "Perceptual",
    "PictureDomain",
    "Plan",
    "Redraw",
    "Restore",
    "TokenizerSpec",
    "Weight",
]

FORMAT = 1
FILE_NAME = "bundle.json"

ASSESS_COMPONENTS = ("perceptual", "alignment_image", "alignment_text")
SECTION_COMPONENTS = {
    "inpaint": ("inpaint_text", "inpaint_encode", "inpaint_step", "inpaint_decode"),
    "restore": ("restore_text", "restore_encode", "restore_step", "restore_decode"),
}
"""What each stage that may be null brings with it."""

_TAKEN = ("perceptual", "alignment", "overall", "technical", "rationality", "naturalness", "scores")
"""Names of scores that no metric may have."""

MAX_SIDE, MAX_GRID, MAX_LENGTH, MAX_STEPS = 16384, 1024, 4096, 1000
"""Pixels, tokens along a side of a grid, tokens of a text, steps of a stage."""


@dataclass(frozen=True)
class Manifest:
    """All of `bundle.json`. Paths are relative to the bundle, with forward slashes.

    A bundle that only assesses has null for `inpaint` and `restore`; their components and tokenizers are then absent.
    `scorers`: the metrics beside both indicators, by name; `components` and `tokenizers` have theirs too, but not in
    the file. `domain`: what it was made for; null is everything. `costs` by graph file, where they were counted.
    `checksum`: SHA-256 of all the rest, see `strict.digest`.
    """

    format: int
    name: str
    version: str
    description: str
    weights: tuple[Weight, ...]
    perceptual: Perceptual
    alignment: Alignment
    plan: Plan
    inpaint: Inpaint | None
    restore: Restore | None
    tokenizers: Mapping[str, tuple[TokenizerSpec, ...]]
    components: Mapping[str, str]
    files: Mapping[str, FileEntry]
    scorers: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    domain: Domain | None = None
    costs: Mapping[str, Cost] | None = None
    checksum: str | None = None

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read `bundle.json`. Raises BundleError for another format version, and for anything missing,
        unknown, of a wrong type, out of range, or pointing out of the bundle."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"bundle.json is not valid JSON ({short(error)}): {MENDS}.") from error
        if not isinstance(data, dict):
            raise BundleError(f"bundle.json must hold a JSON object: {MENDS}.")
        if data.get("format") != FORMAT:
            raise BundleError(
                f"bundle.json has format {shown(data.get('format'))}, but this version of grefine-rt reads format "
                f"{FORMAT}: {MENDS}, or take a newer grefine-rt."
            )
        manifest = read_strictly(cls, with_metrics(data), "")
        _check(manifest)
        return manifest

    def to_json(self) -> str:
        """The text of `bundle.json`; `from_json` gives back an equal manifest."""
        data = dataclasses.asdict(self)
        for metric in data["scorers"].values():
            for kind in ("components", "tokenizers"):
                data[kind] = {name: item for name, item in data[kind].items() if name not in metric[kind]}
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"

    def reads(self, component: str) -> str:
        """The component whose tokenizers make the ids that this one takes: its own, its stage's text encoder's, or the
        alignment indicator's."""
        if component in self.tokenizers:
            return component
        return f"{component.split('_')[0]}_text" if component.endswith("_step") else "alignment_text"

    def metric_of(self, component: str) -> Metric | None:
        """The metric that a component belongs to."""
        return next((metric for metric in self.scorers.values() if component in metric.components), None)

    @property
    def refines(self) -> bool:
        """Whether the bundle has both stages of the refiner; without them it only assesses."""
        return self.inpaint is not None and self.restore is not None

    @property
    def stage1(self) -> Inpaint:
        """The settings of stage 1. Raises BundleError when the bundle lacks it."""
        if self.inpaint is None:
            raise BundleError(self._lacks("stage 1"))
        return self.inpaint

    @property
    def stage2(self) -> Restore:
        """The settings of stage 2. Raises BundleError when the bundle lacks it."""
        if self.restore is None:
            raise BundleError(self._lacks("stage 2"))
        return self.restore

    @property
    def stages(self) -> tuple[Inpaint, Restore]:
        """The settings of both stages. Raises BundleError when the bundle lacks one."""
        return self.stage1, self.stage2

    def check_refines(self) -> None:
        """Raises BundleError for a bundle that lacks a stage."""
        for name, settings in (("stage 1", self.inpaint), ("stage 2", self.restore)):
            if settings is None:
                raise BundleError(self._lacks(name))

    def _lacks(self, stage: str) -> str:
        what = "only assesses and cannot refine" if not (self.inpaint or self.restore) else f"has no {stage}"
        return (
            f"Bundle '{self.name}' {what}: use it with Assessor or 'grefine-rt assess', or refine with another bundle, "
            f"see 'grefine-rt bundle list'."
        )

    def files_of(self, component: str) -> tuple[str, ...]:
        """The files of a component: its graph, and external data, whose names begin with the graph's; data named after
        no graph belongs to every component that reads texts."""
        graph = self.components[component]
        graphs = tuple(self.components.values())

        def belongs(path: str) -> bool:
            shared = path.endswith(".data") and not path.startswith(graphs)
            return (
                (shared and component.endswith("_text"))
                or path == graph
                or path.startswith((graph + ".", graph + "_"))
            )

        return tuple(path for path in self.files if belongs(path))


def _check(manifest: Manifest) -> None:
    """The checks that types cannot make: ranges, and names that must agree."""
    for path in manifest.files:
        pure = PurePosixPath(path)
        plain = path == pure.as_posix() and not pure.is_absolute() and not re.search(r"[\\:\0]", path)
        if not plain or ".." in pure.parts or path in (".", FILE_NAME):
            raise BundleError(
                f"bundle.json lists '{short(path)}', which is no path inside the bundle: {MENDS}."
            )
    components = manifest.components.keys()
    needed = {*ASSESS_COMPONENTS}
    for section, parts in SECTION_COMPONENTS.items():
        if getattr(manifest, section) is not None:
            needed |= {*parts}
        else:
            refuse("component", components & {*parts}, f"has null for '{section}' but the")
    core = {*ASSESS_COMPONENTS, *(part for parts in SECTION_COMPONENTS.values() for part in parts)}
    for name, metric in manifest.scorers.items():
        refuse("name of a metric in", {f"scorers.{name}"} if name in _TAKEN else set(), "has a taken")
        refuse("component", core & metric.components.keys(), f"gives the metric '{name}' the taken")
    needed |= {part for metric in manifest.scorers.values() for part in metric.components}
    refuse("component", components - needed, "has the unknown")
    refuse("component", needed - components, "lacks the")
    texts = {component for component in needed if component.endswith("_text")}
    tokenized = {component for component, specs in manifest.tokenizers.items() if specs}
    refuse("tokenizer of", texts - tokenized, "lacks the")
    refuse("tokenizer of", tokenized - texts, "has the unknown")
    named = {
        *manifest.components.values(),
        *(spec.file for specs in manifest.tokenizers.values() for spec in specs),
    }
    domain = manifest.domain or Domain()
    named |= {domain.words} if domain.words else set()
    named |= {domain.pictures.file} if domain.pictures else set()
    refuse("size and SHA-256 of file", named - manifest.files.keys(), "lacks the")

    check_ranges(_fine(manifest))


def _fine(manifest: Manifest) -> dict[str, bool]:
    """Whether each value is in its range, by its name."""
    perceptual, alignment, plan = manifest.perceptual, manifest.alignment, manifest.plan
    pictures = manifest.domain.pictures if manifest.domain else None
    positive: dict[str, tuple[float, ...]] = {
        "perceptual": (perceptual.resolution, perceptual.grid, *perceptual.alpha),
        "alignment": (alignment.resolution, alignment.grid, alignment.temperature, alignment.beta),
        "tokenizers": tuple(spec.length for specs in manifest.tokenizers.values() for spec in specs),
    }
    fine = {section: all(value > 0 for value in values) for section, values in positive.items()}
    fine |= {where: low <= value <= high for where, value, low, high in _ranges(manifest)}
    fine["perceptual.alpha"] = len(perceptual.alpha) == 3
    fine["plan"] = 0 <= plan.strength_min <= plan.strength_max <= 1
    fine["plan.grow"] = min(plan.grow, plan.feather, plan.min_area) >= 0
    fine["domain.pictures.threshold"] = pictures is None or pictures.threshold > 0
    fine["plan.p_bound"] = 0 <= plan.p_bound <= 1
    if manifest.restore is not None:
        fine["restore.delta"] = 0 <= manifest.restore.delta <= 1
    if manifest.inpaint is not None:
        fine["inpaint.drafts"] = manifest.inpaint.drafts > 0
        fine["inpaint.smallest"] = manifest.inpaint.smallest >= 0
        fine["inpaint.sketch_steps"] = manifest.inpaint.sketch_steps >= 0
    for section, stage in (("inpaint", manifest.inpaint), ("restore", manifest.restore)):
        if stage is not None:
            fine |= {f"{section}{name}": is_fine for name, is_fine in _fine_stage(stage).items()}
    for file, cost in (manifest.costs or {}).items():
        fine[f"costs.{file}"] = len(cost.flops) == len(cost.memory) == 3
    fine["files"] = all(
        entry.size >= 0 and re.fullmatch("[0-9a-f]{64}", entry.sha256) for entry in manifest.files.values()
    )
    return fine


def _fine_stage(stage: Inpaint | Restore) -> dict[str, bool]:
    schedule, interval = stage.schedule, stage.interval
    return {
        "": stage.resolution > 0 and stage.steps > 0,
        ".tile": stage.tile >= 0 and (not stage.multiple or stage.tile % stage.multiple == 0),
        ".rescale": 0 <= stage.rescale <= 1,
        ".interval": len(interval) == 2 and 0 <= interval[0] <= interval[1] <= 1,
        # A latent cell is 8 pixels wide: other multiples would not give whole latents.
        ".multiple": stage.multiple > 0 and stage.multiple % 8 == 0,
        ".schedule": 0 < schedule.beta_start <= schedule.beta_end < 1
        and schedule.train_steps > 0 <= schedule.offset,
    }


def _ranges(manifest: Manifest) -> Iterator[tuple[str, float, float, float]]:
    """Sizes and counts with what they may be: beyond it no model is, and memory and time would run away."""
    yield "perceptual.resolution", manifest.perceptual.resolution, 1, MAX_SIDE
    yield "perceptual.grid", manifest.perceptual.grid, 1, MAX_GRID
    yield "alignment.resolution", manifest.alignment.resolution, 1, MAX_SIDE
    yield "alignment.grid", manifest.alignment.grid, 1, MAX_GRID
    yield "plan.tau", manifest.plan.tau, 0, 2
    yield "plan.grow", manifest.plan.grow, 0, 64
    yield "plan.feather", manifest.plan.feather, 0, 64
    yield "plan.min_area", manifest.plan.min_area, 0, 1
    for component, specs in manifest.tokenizers.items():
        for spec in specs:
            yield f"tokenizers.{component}", spec.length, 1, MAX_LENGTH
    if manifest.inpaint is not None:
        yield "inpaint.drafts", manifest.inpaint.drafts, 1, 64
        yield "inpaint.sketch_steps", manifest.inpaint.sketch_steps, 0, MAX_STEPS
        yield "inpaint.smallest", manifest.inpaint.smallest, 0, MAX_SIDE
    for section, stage in (("inpaint", manifest.inpaint), ("restore", manifest.restore)):
        if stage is not None:
            yield f"{section}.resolution", stage.resolution, 1, MAX_SIDE
            yield f"{section}.multiple", stage.multiple, 8, MAX_SIDE
            yield f"{section}.steps", stage.steps, 1, MAX_STEPS
            yield f"{section}.tile", stage.tile, 0, MAX_SIDE
            yield f"{section}.guidance", stage.guidance, -1000, 1000
            yield f"{section}.schedule.train_steps", stage.schedule.train_steps, 1, 100_000
            yield f"{section}.schedule.offset", stage.schedule.offset, 0, 100_000
    for path, entry in manifest.files.items():
        yield f"files.{path}.size", entry.size, 0, 2**48
    for path, cost in (manifest.costs or {}).items():
        for value in (*cost.flops, *cost.memory):
            yield f"costs.{path}", value, -HIGHEST, HIGHEST
