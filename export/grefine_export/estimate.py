"""The costs of making a bundle, told before anything is fetched: bytes from the hub, disk, time."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from grefine_export.hub import Refused, Unreachable, cached, gigabytes, is_hub_id, listing, not_cached
from grefine_export.recipes import OPTIONS, Recipe

SECONDS_PER_GRAPH = 20.0
SECONDS_PER_GIGABYTE = 100.0
"""Seconds of tracing and comparing a gigabyte, measured on two CPU cores: SDXL's inpainting UNet, 5.13 GB in FP16,
took 572 s; a UNet of 64 MB 64 s, autoencoders and text encoders of that kind 5 to 10 s a graph."""

BYTES_PER_SECOND = 12.5e6
"""The rate of a download: 100 Mbit/s, an assumption."""

PEAKS = {"clip": 4, "ip_iqa": 2, "inpaint": 18, "restore": 13}
"""GiB of memory that the export of a stage takes at its peak, about. SDXL's and PASD's are those of their steps, which
take the most of their stages: 17.7 and 12.5 GiB measured (docs/full_size.log). CLIP's and IP-IQA's are not measured:
they follow from SDXL's seven bytes a parameter."""

_GRAPHS = {"clip": 2, "ip_iqa": 3, "inpaint": 4, "restore": 4}


@dataclass(frozen=True)
class Estimate:
    """downloads: checkpoint's place -> bytes still to fetch. counted: whether these are the hub's own figures, else the
    recipe's. bundle: bytes of the finished bundle that are still to be written. export: seconds of tracing, or of
    training. memory: bytes at the peak of tracing; 0 for a training."""

    downloads: Mapping[str, int]
    counted: bool
    bundle: int
    export: float
    memory: int = 0

    @property
    def download(self) -> int:
        """Bytes to fetch in all."""
        return sum(self.downloads.values())

    @property
    def seconds(self) -> float:
        """Seconds of everything, downloads at `BYTES_PER_SECOND`."""
        return self.export + self.download / BYTES_PER_SECOND


def estimate(recipe: Recipe, done: int = 0) -> Estimate:
    """The estimate of a recipe, with sizes from the hub where it answers, else from the recipe. done: bytes of the
    bundle that a former run has written.

    Every listing is looked at here, before anything is fetched. Raises ValueError (one sentence) for a checkpoint that
    is published nowhere and was not given, or a local one that is not there; `hub.Refused` for one that the hub has not
    or does not give and the cache lacks; and the errors of `hub.listing` for a model without a wanted file.
    """
    downloads, counted = {}, True
    for place, checkpoint in recipe.checkpoints.items():
        source = checkpoint.source
        if not source:
            raise ValueError(
                f"the checkpoint '{place}' of the recipe '{recipe.name}' is on no hub: give its file or folder with "
                f"{OPTIONS[place]}"
            )
        if not is_hub_id(source):
            if not Path(source).expanduser().exists():
                raise ValueError(
                    f"there is no checkpoint '{source}': give a file or folder with {OPTIONS[place]}"
                )
            continue
        try:
            files = listing(source, checkpoint.revision or None, checkpoint.files or ["*"])
            if not checkpoint.files:
                raise Unreachable  # it is there, but what its stage will choose is not known here
            downloads[place] = not_cached(source, checkpoint.revision or None, files)
        except Unreachable as error:
            if isinstance(error, Refused) and not cached(
                source, checkpoint.revision or None, checkpoint.files or ["*"]
            ):
                raise Refused(f"{error} with {OPTIONS[place]}") from error
            if not (checkpoint.files and cached(source, checkpoint.revision or None, checkpoint.files)):
                downloads[place], counted = checkpoint.bytes, False
    if recipe.training:
        export = 3600 * recipe.training.hours
    else:
        graphs = sum(count for stage, count in _GRAPHS.items() if getattr(recipe, stage) is not None)
        export = SECONDS_PER_GRAPH * graphs + SECONDS_PER_GIGABYTE * recipe.graph_bytes / 1e9
    peaks = [peak for stage, peak in PEAKS.items() if getattr(recipe, stage) is not None]
    bundle = max(0, recipe.graph_bytes - done)
    return Estimate(downloads, counted, bundle, export, max(peaks, default=0) << 30)


def describe(costs: Estimate, trained: bool) -> list[str]:
    """The lines for people."""
    basis = (
        "as measured on two CPU cores"
        if trained
        else f"{SECONDS_PER_GRAPH:.0f} s a graph and {SECONDS_PER_GIGABYTE:.0f} s a GB as measured on two CPU cores, "
        f"downloads at {BYTES_PER_SECOND * 8e-6:.0f} Mbit/s"
    )
    known = "" if costs.counted else " at most (from the recipe, for the hub does not say)"
    return [
        *(f"  {place}: {gigabytes(size)} to fetch" for place, size in costs.downloads.items()),
        f"download: {gigabytes(costs.download)}{known}",
        f"disk: {gigabytes(costs.download)} of downloads and {gigabytes(costs.bundle)} of bundle",
        *([f"memory: about {costs.memory / 2**30:.0f} GiB at the peak"] if costs.memory else []),
        f"time: about {_duration(costs.seconds)} ({basis})",
    ]


def refuse_full_disk(costs: Estimate, out: Path) -> None:
    """Raise ValueError (one sentence) when downloads and the rest of the bundle do not fit on their disks."""
    from huggingface_hub.constants import HF_HUB_CACHE

    needs: dict[int, int] = {}
    places: dict[int, Path] = {}
    for folder, size in ((out, costs.bundle), (Path(HF_HUB_CACHE), costs.download)):
        there = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.exists())
        device = there.stat().st_dev
        needs[device] = needs.get(device, 0) + size
        places.setdefault(device, there)
    for device, need in needs.items():
        free = shutil.disk_usage(places[device]).free
        if need > free:
            raise ValueError(
                f"the disk of '{places[device]}' has {gigabytes(free)} free and {gigabytes(need)} are needed: free "
                f"some space, give another --out, or move the downloads with the variable HF_HUB_CACHE"
            )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{max(1, round(seconds / 60))} minutes"
