"""A stage of the refiner on its way into a bundle: its components, tokenizers, costs and section of the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from grefine_export.choices import Operators, Precision
from grefine_export.onnx.component import Job, export_component, identity
from grefine_export.onnx.cost import count
from grefine_export.vae_component import Load, decode_job, encode_job
from grefine_rt.bundle.manifest import SECTION_COMPONENTS
from grefine_rt.bundle.store import write

Say = Callable[[str], None]
TEXT_LENGTH = 77
"""Tokens of a prompt, of every CLIP text encoder of Stable Diffusion and SDXL."""


def multiple_of(unet: Mapping[str, Any]) -> int:
    """Pixels that the sides of work pictures are multiples of, by the UNet's configuration."""
    # Each level of the UNet but the last halves the latent.
    return int(8 * 2 ** (len(unet["block_out_channels"]) - 1))


def made_of(operators: Operators) -> dict[str, str]:
    """The choice's addition to the origin of a graph: nothing for portable ones, so that older ones are kept."""
    return {} if operators == "portable" else {"operators": operators}


@dataclass(frozen=True)
class StageBundle:
    """The folder of a bundle that a stage joins, and the section of `bundle.json` that is the stage's."""

    bundle: Path
    section: Literal["inpaint", "restore"]
    say: Say

    @property
    def files(self) -> dict[str, str]:
        """The graph file of each component, relative to the bundle."""
        return {name: f"components/{name}.onnx" for name in SECTION_COMPONENTS[self.section]}

    def export(
        self, part: str, build: Callable[[], Job], precision: Precision, **made_from: Any
    ) -> dict[str, float]:
        """Export the stage's component `part`; gives its error by its name, see `export_component`."""
        name = f"{self.section}_{part}"
        return {name: export_component(self.bundle / self.files[name], build, precision, made_from, self.say)}

    def export_vae(
        self,
        load: Load,
        files: Iterable[Path],
        precision: Precision,
        side: int,
        tiled: bool,
        operators: Operators = "portable",
    ) -> dict[str, float]:
        """Export encoder and decoder of the autoencoder that `load` gives; see `vae_component`."""
        made_from = {"vae": identity(files), "side": side, "tiled": tiled, **made_of(operators)}
        errors: dict[str, float] = {}
        for part, job in (("encode", encode_job), ("decode", decode_job)):
            errors |= self.export(
                part, partial(job, load, precision, side, tiled, operators), precision, **made_from
            )
        return errors

    def entered(
        self,
        manifest: Mapping[str, Any],
        settings: Mapping[str, Any],
        tokenizers: Mapping[str, str],
        origin: str,
        license_name: str,
    ) -> dict[str, Any]:
        """`manifest` with the stage. tokenizers: file -> the graph input that its ids go to."""
        own = [{"component": name, "origin": origin, "license": license_name} for name in self.files]
        others = [weight for weight in manifest["weights"] if weight["component"] not in self.files]
        specs = [{"file": file, "input": name, "length": TEXT_LENGTH} for file, name in tokenizers.items()]
        return {
            **manifest,
            self.section: {**settings},
            "components": manifest["components"] | self.files,
            "tokenizers": manifest["tokenizers"] | {f"{self.section}_text": specs},
            "weights": others + own,
        }

    def finish(
        self, manifest: Mapping[str, Any], files: Sequence[str], tokenizers: Sequence[Tokenizer]
    ) -> None:
        """Write the tokenizers, count the graphs' costs, and write the manifest."""
        for file, tokenizer in zip(files, tokenizers, strict=True):
            (self.bundle / file).parent.mkdir(exist_ok=True)
            tokenizer.save(str(self.bundle / file))
        costs = {file: dataclasses.asdict(count(self.bundle / file)) for file in self.files.values()}
        write(self.bundle, {**manifest, "costs": (manifest["costs"] or {}) | costs})
