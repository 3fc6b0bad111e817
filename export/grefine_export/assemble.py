"""A recipe becomes a bundle: fetch, clip, ip_iqa, inpaint, restore, costs, verify. Resumable at every stage.

The bundle grows in the folder OUT.partial and is renamed to OUT once it is proven; OUT.state.json has the stages that
are done, each with a hash of its sources.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from grefine_export import stages
from grefine_export.estimate import describe, estimate, refuse_full_disk
from grefine_export.hub import Unreachable, fetch, is_hub_id
from grefine_export.onnx.cost import add_costs
from grefine_export.recipes import OPTIONS, Checkpoint, Recipe
from grefine_rt.bundle import store
from grefine_rt.bundle.manifest import FILE_NAME, Manifest
from grefine_rt.files import written_whole

Say = Callable[[str], None]
ADDERS: dict[str, Callable[..., None]] = {
    "clip": stages.add_clip,
    "ip_iqa": stages.add_ip_iqa,
    "inpaint": stages.add_inpaint,
    "restore": stages.add_restore,
}
"""The stages in their order, as tables of a recipe."""


def written(out: Path) -> int:
    """Bytes of the bundle `out` that a run which was broken off has left."""
    unfinished = out.absolute().with_name(f"{out.name}.partial")
    return sum(file.stat().st_size for file in unfinished.rglob("*") if file.is_file())


def assemble(recipe: Recipe, out: Path, say: Say = print) -> Manifest:
    """Make the bundle `out` of a recipe; a run that was broken off goes on where it stopped.

    Raises ValueError when `out` has files or the disk cannot hold it, and the errors of the stages; one sentence each.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"'{out}' is there already and not empty: give a new folder, or delete it")
    unfinished = out.with_name(f"{out.name}.partial")
    costs = estimate(recipe, written(out))
    say(f"licences: {recipe.license}")
    for line in describe(costs, trained=recipe.training is not None):
        say(line)
    refuse_full_disk(costs, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    progress = _Progress(out.with_name(f"{out.name}.state.json"), say)
    if not (unfinished / FILE_NAME).is_file():
        progress.forget(("training", *ADDERS))
    if recipe.training is not None:
        progress.stage("training", recipe.training, partial(stages.train, unfinished, recipe.training, say))
    else:
        _add_stages(recipe, unfinished, progress)
    progress.title("costs")
    add_costs(unfinished)
    progress.title("verify")
    manifest = store.verify(unfinished)
    if out.exists():
        out.rmdir()
    unfinished.rename(out)
    progress.file.unlink()
    return manifest


def _add_stages(recipe: Recipe, bundle: Path, progress: _Progress) -> None:
    paths = {place: progress.fetched(place, one) for place, one in recipe.checkpoints.items()}
    tables = {name: table for name in ADDERS if (table := getattr(recipe, name)) is not None}
    # A bundle only grows: a stage less than before needs a new beginning.
    if progress.done.keys() & ADDERS.keys() - tables.keys():
        progress.forget(ADDERS)
    for name, table in tables.items():
        own = {place: path for place, path in paths.items() if place.startswith(f"{name}.")}
        named = {*own.values(), *_strings(dataclasses.astuple(table))}
        inputs = (table, {path: _fingerprint(path) for path in named})
        if name == "clip" and not progress.has(name, inputs):
            progress.forget(ADDERS)
            shutil.rmtree(bundle, ignore_errors=True)
        progress.stage(name, inputs, partial(ADDERS[name], bundle, table, own, progress.say))
    stages.enter(recipe, bundle)


class _Progress:
    """The stages that are done, in a file: name -> hash of its sources; and lines for people."""

    def __init__(self, file: Path, say: Say) -> None:
        self.file, self.say, self.started = file, say, time.monotonic()
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            state = {}
        self.done: dict[str, str] = state.get("done", {})
        self.paths: dict[str, str] = state.get("paths", {})

    def title(self, text: str) -> None:
        self.say(f"[{time.monotonic() - self.started:7.0f} s] {text}")

    def has(self, name: str, inputs: Any) -> bool:
        return self.done.get(name) == _key(inputs)

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.done.pop(name, None)
        self._save()

    def stage(self, name: str, inputs: Any, work: Callable[[], object]) -> None:
        if self.has(name, inputs):
            self.title(f"{name}: done before")
            return
        self.title(name)
        work()
        self.done[name] = _key(inputs)
        self._save()

    def fetched(self, place: str, checkpoint: Checkpoint) -> str:
        """The local file or folder of a checkpoint. A hub id without files stays itself: its stage knows which."""
        if not is_hub_id(checkpoint.source) or not checkpoint.files:
            return checkpoint.source
        if not Path(self.paths.get(place, "")).exists():
            self.forget([f"fetch {place}"])
        self.stage(f"fetch {place}", checkpoint, partial(self._fetch, place, checkpoint))
        return self.paths[place]

    def _fetch(self, place: str, checkpoint: Checkpoint) -> None:
        try:
            folder = fetch(checkpoint.source, checkpoint.revision or None, checkpoint.files, self.say)
        except Unreachable as error:
            raise Unreachable(f"{error} with {OPTIONS[place]}") from error
        self.paths[place] = str(folder / checkpoint.part)

    def _save(self) -> None:
        with written_whole(self.file) as part:
            part.write_text(json.dumps({"done": self.done, "paths": self.paths}, indent=1), encoding="utf-8")


def _key(inputs: Any) -> str:
    text = json.dumps(inputs, default=dataclasses.asdict, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _strings(values: Iterable[Any]) -> Iterator[str]:
    """The texts in nested values that are not empty: names of files among them."""
    for value in values:
        if isinstance(value, str):
            yield from [value] if value else []
        elif isinstance(value, list | tuple):
            yield from _strings(value)


def _fingerprint(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time of every file, if any: enough to see that a checkpoint is another one."""
    root = Path(path).expanduser()
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    return [(str(f.relative_to(root)), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
