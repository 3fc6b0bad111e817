"""The parts that the commands of `grefine-export learn` share: errors, devices, runs that go on, present pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTextConfig

    from grefine_export.learn.epochs import Recipe
    from grefine_rt import Assessor
    from grefine_rt.assess.indicator import Assessment
    from grefine_rt.evaluation.databases import Rated
    from grefine_rt.text.tokenizer import PromptTokenizer


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn errors that a user can mend into one sentence and exit code 1."""
    from grefine_rt.errors import GRefineError

    try:
        yield
    except (ValueError, OSError, GRefineError) as error:
        # What went wrong in a process that reads pictures comes with its traceback: the sentence is the last line.
        kind = type(error)
        sentence = str(error).rstrip().rpartition("\n")[2]
        sentence = sentence.removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")
        typer.echo(f"error: {sentence}", err=True)
        raise typer.Exit(1) from error


def device_of(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no CUDA device here: use --device cpu")
    return torch.device(name)


def side_of(resolution: int) -> int:
    if resolution < 32 or resolution % 32:
        raise ValueError(
            f"the side of the pictures must be a multiple of 32, such as 224 or 512, not {resolution}"
        )
    return resolution


def same_run(out: Path, recipe: Recipe, **settings: object) -> None:
    """Leave in `out` the recipe of a run; a run with another recipe must not go on from there."""
    import dataclasses
    import json

    of_machine = ("workers",)
    asked = {name: value for name, value in dataclasses.asdict(recipe).items() if name not in of_machine}
    text = json.dumps({**asked, **settings}, default=str, indent=1)
    file = out / "run.json"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ValueError(f"'{out}' holds a run with other options, see its run.json: give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def tokenizer_of(path: Path, given: Path | None, text: CLIPTextConfig, out: Path) -> PromptTokenizer:
    """CLIP's tokenizer, which is left in `out` for the bundle."""
    from grefine_export.models.clip_tokenizer import read_tokenizer
    from grefine_rt.text.tokenizer import PromptTokenizer

    words = read_tokenizer(given or (path if path.is_dir() else path.parent), text.vocab_size)
    out.mkdir(parents=True, exist_ok=True)
    words.save(str(out / "tokenizer.json"))
    return PromptTokenizer.from_file(out / "tokenizer.json", text.max_position_embeddings, clean=True)


def present(rated: Sequence[Rated]) -> list[Rated]:
    """The entries whose pictures are there."""
    there = [one for one in rated if one.path.is_file()]
    if not there:
        raise ValueError("none of the database's pictures is there: unpack them below its folder")
    if len(there) < len(rated):
        typer.echo(f"{len(rated) - len(there)} of {len(rated)} pictures are not there", err=True)
    return there


def assessed(assessor: Assessor, rated: Sequence[Rated]) -> Iterator[tuple[Rated, Assessment]]:
    """Assessments of the readable pictures that have a prompt."""
    from grefine_rt.errors import ImageError
    from grefine_rt.imaging.image import load
    from grefine_rt.text.emphasis import plain_text

    unreadable = 0
    for start in range(0, len(rated), 8):
        batch, pictures = [], []
        for one in rated[start : start + 8]:
            try:
                if plain_text(one.prompt).strip():
                    pictures.append(load(one.path).rgb)
                    batch.append(one)
            except ImageError:
                unreadable += 1
        yield from zip(batch, assessor.assess_batch(pictures, [one.prompt for one in batch]), strict=True)
        if start % 400 == 0:
            typer.echo(f"{start + len(batch)} of {len(rated)} pictures assessed", err=True)
    if unreadable:
        typer.echo(f"{unreadable} pictures could not be read", err=True)
