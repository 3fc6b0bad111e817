"""The stages of a recipe, each of which adds its part to the folder of a bundle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from grefine_export import inpaint_bundle, pasd_bundle
from grefine_export.checkpoints import locate, public_name
from grefine_export.clip_bundle import make_bundle
from grefine_export.mini import pipeline
from grefine_export.onnx import ip_iqa
from grefine_export.recipes import Checkpoint, Clip, Inpaint, IpIqa, Recipe, Restore, Training
from grefine_rt.bundle import store
from grefine_rt.bundle.manifest import FILE_NAME

Say = Callable[[str], None]
Paths = Mapping[str, str]
"""Checkpoint's place, as in `Recipe.checkpoints` -> local file or folder, or a hub id that the stage itself fetches."""

BUDGETS = {"cpu": pipeline.Budget(), "gpu": pipeline.GPU, "smoke": pipeline.SMOKE}


def train(bundle: Path, table: Training, say: Say) -> None:
    """The embedded bundle from nothing; itself resumable from `table.work`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures = pipeline.run(BUDGETS[table.budget], Path(table.work), bundle, device, say, table.attention)
    for name, value in figures.items():
        say(f"{name}: {value:.4f}")


def add_clip(bundle: Path, table: Clip, paths: Paths, say: Say) -> None:
    """A new bundle that assesses; `bundle` must be empty."""
    make_bundle(
        bundle,
        locate(paths["clip.checkpoint"]),
        origin(table.checkpoint),
        table.checkpoint.license,
        say,
        size=table.size,
        contexts=Path(table.contexts).expanduser() if table.contexts else None,
        contexts_license=table.contexts_license,
        weights=table.weights,
        compute=table.compute,
        batch=table.batch,
    )


def add_ip_iqa(bundle: Path, table: IpIqa, paths: Paths, say: Say) -> None:
    """IP-IQA from `ip_iqa.safetensors`, or the folder that has it, with `tokenizer.json` beside it."""
    given = Path(paths["ip_iqa.checkpoint"])
    weights = given / "ip_iqa.safetensors" if given.is_dir() else given
    trained = ip_iqa.read_weights(weights)
    _, errors = ip_iqa.add_to_bundle(
        trained.model,
        bundle,
        trained.resolution,
        trained.tokenizer,
        length=trained.length,
        weights=table.weights,
        origin=origin(table.checkpoint),
        license_name=table.checkpoint.license,
    )
    for name, error in errors.items():
        say(f"{name}: relative error {error:.1e}")


def add_inpaint(bundle: Path, table: Inpaint, paths: Paths, say: Say) -> None:
    """Stage 1, from an SDXL checkpoint."""
    loras = ((paths["inpaint.lora"], table.lora_scale),) if table.lora else ()
    options = dataclasses.replace(
        table.options,
        vae=paths.get("inpaint.vae", table.options.vae),
        loras=(*loras, *table.options.loras),
    )
    inpaint_bundle.add_inpaint(bundle, paths["inpaint.checkpoint"], options, say)


def add_restore(bundle: Path, table: Restore, paths: Paths, say: Say) -> None:
    """Stage 2, from a PASD checkpoint and the Stable Diffusion it stands on."""
    checkpoint, base = paths["restore.checkpoint"], paths["restore.base"]
    pasd_bundle.add_restore(bundle, checkpoint, base, table.options, say)


def enter(recipe: Recipe, bundle: Path) -> None:
    """Write the recipe's facts on the whole into the manifest: its name, the plan, the origins of weights."""
    manifest = json.loads((bundle / FILE_NAME).read_text(encoding="utf-8"))
    manifest |= {"name": recipe.name, "version": recipe.version, "description": recipe.description}
    assert recipe.plan is not None
    manifest["plan"] = dataclasses.asdict(recipe.plan)
    for weight in manifest["weights"]:
        stage = weight["component"].partition("_")[0]
        if used := [one for place, one in recipe.checkpoints.items() if place.startswith(f"{stage}.")]:
            weight["origin"] = " and ".join(origin(one) for one in used)
            weight["license"] = " AND ".join(dict.fromkeys(one.license for one in used))
    store.write(bundle, manifest)


def origin(checkpoint: Checkpoint) -> str:
    """For the manifest: hub id with commit, or a local checkpoint's name; see `public_name`."""
    if checkpoint.revision:
        return f"{checkpoint.source}@{checkpoint.revision[:12]}"
    return public_name(checkpoint.source)
