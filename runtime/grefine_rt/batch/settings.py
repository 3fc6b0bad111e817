"""The work of a batch on every picture, and the settings that a row may have of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from grefine_rt import __version__
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.imaging.encode import Encoding
from grefine_rt.options import build, changed
from grefine_rt.plan.options import RefineOptions

Mode = Literal["refine", "assess"]


@dataclass(frozen=True)
class BatchOptions:
    """The settings of a batch. mode: "refine", or "assess" for scores alone. options, seed: of every row that sets
    none of its own. encoding: of the results. together: rows that are assessed in one run of each graph; above 1
    their scores may differ by rounding from a row's alone."""

    mode: Mode = "refine"
    options: RefineOptions = field(default_factory=RefineOptions)
    seed: int = 0
    encoding: Encoding = field(default_factory=Encoding)
    together: int = 1

    def run_of(self, manifest: Manifest) -> dict[str, Any]:
        """Everything that the results of a run depend on, as JSON; runs that differ in it need folders of their own."""
        return {
            "software": f"grefine-rt {__version__}",
            "bundle": f"{manifest.name} {manifest.version}",
            "checksum": manifest.checksum,
            "mode": self.mode,
            "seed": self.seed if self.mode == "refine" else None,
            "options": changed(self.options),
            "batch": self.together if self.mode == "assess" else 1,
            "encoding": repr(self.encoding) if self.mode == "refine" else None,
        }


SMALL = 256
"""Side of a picture at work, in pixels, up to which its graphs leave most of a second core idle."""


def side_by_side(
    manifest: Manifest, cores: int, threads: int | None, jobs: int | None
) -> tuple[int | None, int]:
    """Threads of a picture (None: as many as the engine likes) and pictures at a time that do most on `cores` cores of
    a CPU, for what the user left open.

    The embedded bundle takes 0.21 s a picture on two cores with two pictures of one thread, 0.31 s with one of two
    threads, and 0.33 s with two of two. Large pictures fill the cores alone, and each takes its memory.
    """
    if threads is None and manifest.perceptual.resolution <= SMALL:
        threads = max(1, cores // (jobs or cores))
    return threads, jobs or max(1, cores // (threads or cores))


def with_values(options: RefineOptions, values: Mapping[str, Any]) -> RefineOptions:
    """Options with some set anew, by name, see `docs/options.md`. Raises OptionError."""
    return build(RefineOptions, {**changed(options), **values})
