"""Recipes: the checkpoints of a bundle, its sizes, steps, prompts and precisions. Strict TOML."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from grefine_export.choices import Attention, Operators, Weights
from grefine_export.inpaint_bundle import InpaintOptions
from grefine_export.pasd_bundle import RestoreOptions
from grefine_rt.bundle.manifest import Plan

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Checkpoint:
    """The origin of weights.

    source: hub id owner/name, or a local file or folder; "" if none is published and one must be given. revision:
    commit at the hub, "" for the newest. files: the files of the model to fetch, as it lays them out; without a
    list the stage chooses. part: the folder or file of it that is given on, "" for all. bytes: of all `files`, for
    the estimate when the hub does not answer.
    """

    license: str
    source: str = ""
    revision: str = ""
    files: tuple[str, ...] = ()
    part: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Training:
    """The bundle is trained from nothing by `grefine_export.mini.pipeline`. work: folder of pictures and checkpoints.
    hours: of the budget on two CPU cores. graph_bytes: size of the bundle."""

    budget: Literal["cpu", "gpu", "smoke"]
    attention: Attention
    work: str
    hours: float
    graph_bytes: int


@dataclass(frozen=True)
class Clip:
    """Both indicators. size: input side in pixels. contexts: folder of learned prompt contexts; "" for CLIP-IQA's pairs
    of antonyms. graph_bytes: size of its graphs, as in every stage."""

    checkpoint: Checkpoint
    size: int
    graph_bytes: int
    weights: Weights = "fp16"
    compute: Weights = "fp32"
    batch: str = "1..8"
    contexts: str = ""
    contexts_license: str = "Apache-2.0"


@dataclass(frozen=True)
class IpIqa:
    """The separate assessor, as `grefine-export learn ip-iqa` leaves it: `ip_iqa.safetensors` with `tokenizer.json`
    beside it."""

    checkpoint: Checkpoint
    weights: Weights = "fp16"
    graph_bytes: int = 170_000_000


@dataclass(frozen=True)
class Inpaint:
    """Stage 1. vae: takes the place of the checkpoint's own autoencoder. lora: fused with the factor `lora_scale`."""

    checkpoint: Checkpoint
    graph_bytes: int
    options: InpaintOptions
    vae: Checkpoint | None = None
    lora: Checkpoint | None = None
    lora_scale: float = 1.0


@dataclass(frozen=True)
class Restore:
    """Stage 2. base: the Stable Diffusion whose autoencoder, text encoder and tokenizer it works with."""

    checkpoint: Checkpoint
    base: Checkpoint
    graph_bytes: int
    options: RestoreOptions


@dataclass(frozen=True)
class Recipe:
    """A bundle to be made: either `training` alone, or `clip` and `plan` with any of the other stages."""

    name: str
    version: str
    description: str
    license: str
    training: Training | None = None
    clip: Clip | None = None
    ip_iqa: IpIqa | None = None
    inpaint: Inpaint | None = None
    restore: Restore | None = None
    plan: Plan | None = None

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """All checkpoints by the place where they stand, such as "inpaint.checkpoint"."""
        return {
            f"{stage}.{field.name}": value
            for stage in ("clip", "ip_iqa", "inpaint", "restore")
            if (table := getattr(self, stage)) is not None
            for field in dataclasses.fields(table)
            if isinstance(value := getattr(table, field.name), Checkpoint)
        }

    @property
    def graph_bytes(self) -> int:
        """Size of the finished bundle in bytes, about."""
        stages = (self.training, self.clip, self.ip_iqa, self.inpaint, self.restore)
        return sum(stage.graph_bytes for stage in stages if stage is not None)


OPTIONS = {
    "clip.checkpoint": "--clip",
    "ip_iqa.checkpoint": "--ip-iqa",
    "inpaint.checkpoint": "--inpaint",
    "inpaint.vae": "--vae",
    "inpaint.lora": "--lora",
    "restore.checkpoint": "--restore",
    "restore.base": "--base",
}
"""The option of the command that replaces each checkpoint."""


def shipped() -> dict[str, Path]:
    """Names and files of the recipes that came with the exporter: in the wheel, or in a source checkout."""
    for folder in (_PACKAGE / "recipe_files", _PACKAGE.parent.parent / "engines" / "recipes"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def load(name_or_path: str) -> Recipe:
    """The recipe of this name, or in this TOML file.

    Raises FileNotFoundError when there is none, ValueError for anything missing, unknown, of a wrong type or out of
    place in it; one sentence with file and key each.
    """
    known = shipped()
    path = known.get(name_or_path, Path(name_or_path).expanduser())
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no recipe '{name_or_path}': give one of {', '.join(known) or 'your own'}, or the path of a "
            f"TOML file"
        )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not valid TOML ({error}): mend it") from error
    recipe: Recipe = _convert(Recipe, data, "", path)
    others = (recipe.clip, recipe.ip_iqa, recipe.inpaint, recipe.restore, recipe.plan)
    if recipe.training and any(others):
        raise ValueError(
            f"'{path}' has 'training' beside other tables: a trained bundle takes no checkpoints"
        )
    if not recipe.training:
        for name, table in (("clip", recipe.clip), ("plan", recipe.plan)):
            if table is None:
                raise ValueError(f"'{path}' lacks '{name}': a bundle cannot do without")
    return recipe


def with_checkpoints(recipe: Recipe, given: Mapping[str, str]) -> Recipe:
    """The recipe with other checkpoints: place, as in `Recipe.checkpoints` -> file, folder or hub id.

    Raises ValueError (one sentence) for a place whose table the recipe lacks; "ip_iqa.checkpoint" and "inpaint.lora",
    "inpaint.vae" may join anew.
    """
    for place, source in given.items():
        stage, part = place.split(".")
        table = getattr(recipe, stage)
        replaced = getattr(table, part, None)
        checkpoint = Checkpoint("unknown", source, bytes=replaced.bytes if replaced else 0)
        if table is None and stage == "ip_iqa" and recipe.clip is not None:
            table = IpIqa(checkpoint)
        if table is None:
            raise ValueError(f"the recipe '{recipe.name}' has no '{stage}': leave {OPTIONS[place]} out")
        recipe = replace(recipe, **{stage: replace(table, **{part: checkpoint})})
    return recipe


def with_operators(recipe: Recipe, operators: Operators) -> Recipe:
    """The recipe with the graphs of both stages made of `operators`."""
    for stage in ("inpaint", "restore"):
        if (table := getattr(recipe, stage)) is not None:
            chosen = replace(table, options=replace(table.options, operators=operators))
            recipe = replace(recipe, **{stage: chosen})
    return recipe


def _convert(kind: Any, value: Any, where: str, path: Path) -> Any:
    """`value`, from TOML, as `kind`: a dataclass, tuple, Literal, plain type or one of these or None."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _convert(next(one for one in arguments if one is not type(None)), value, where, path)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            optional = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
            if field.name not in value and not optional:
                raise ValueError(f"'{path}' lacks the key '{where}{field.name}': add it")
        if unknown := value.keys() - hints.keys():
            raise ValueError(
                f"'{path}' has the unknown key '{where}{min(unknown)}': use one of {', '.join(hints)}"
            )
        return typing.cast(Any, kind)(
            **{name: _convert(hints[name], item, f"{where}{name}.", path) for name, item in value.items()}
        )
    if (
        origin is tuple
        and isinstance(value, list)
        and (arguments[1:] == (...,) or len(arguments) == len(value))
    ):
        kinds = arguments if arguments[1:] != (...,) else arguments[:1] * len(value)
        return tuple(_convert(one, item, where, path) for one, item in zip(kinds, value, strict=True))
    if origin is Literal and value in arguments:
        return value
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    wanted = " or ".join(map(repr, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise ValueError(f"'{path}' has {value!r} at '{where.rstrip('.')}' where {wanted} is wanted")
