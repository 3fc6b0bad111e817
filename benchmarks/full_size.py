"""The models of the real sizes, once: exported from random weights, and one ONNX Runtime step of each on a CPU at 512.

    python -m benchmarks.full_size inpaint restore vae text --out DIR --json full_size.json

Each component is exported by the jobs of `grefine-export inpaint` and `pasd` in a process of its own, and run in
another one, so that peak memory is that of the component alone. A component that is done is not made again. Prints a
Markdown table. Everything needs about 20 GB of memory and of disk.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

GROUPS = {
    "inpaint": ("inpaint_step",),
    "restore": ("restore_step",),
    "vae": ("inpaint_encode", "inpaint_decode", "restore_encode", "restore_decode"),
    "text": ("inpaint_text", "restore_text"),
}
SIDE, LARGEST, ROWS, LENGTH = 512, 1024, 2, 77
"""Of the picture, and of the largest that a graph is made for; guidance passes; tokens of a prompt."""
COLUMNS = ("component", "parameters (G)", "precision", "export (s)", "peak (GiB)", "file (GiB)", "error")
COLUMNS += ("load (s)", "run (s)", "peak of run (GiB)")


class Random:
    """Modules with the configurations of the published models; `width` below 1 shrinks them, to try the script."""

    def __init__(self, width: float) -> None:
        self._width = width

    def _channels(self, *full: int) -> tuple[int, ...]:
        return tuple(max(32, round(channels * self._width / 32) * 32) for channels in full)

    def unet(self) -> Any:
        """SDXL-Inpainting's UNet."""
        from grefine_export.models.inpaint import inpaint_unet

        channels = self._channels(320, 640, 1280)
        return inpaint_unet(
            {
                "block_out_channels": channels,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "transformer_layers_per_block": (1, 2, 10) if self._width == 1 else (1, 1, 1),
                "attention_head_dim": tuple(max(1, width // 64) for width in channels),
                "cross_attention_dim": 2048,
                "pooled_dim": 1280,
            }
        )

    def pasd(self) -> Any:
        """PASD's UNet and ControlNet, on Stable Diffusion 1.5's blocks."""
        from torch import nn

        from grefine_export.models.pasd import PasdUNet

        blocks = {"cross_attention_dim": 768, "block_out_channels": self._channels(320, 640, 1280, 1280)}
        model = PasdUNet(blocks, blocks)
        for parameter in model.parameters():
            if not parameter.is_meta and not parameter.any():  # where training starts from zeros
                nn.init.normal_(parameter, std=0.02)
        return model

    def vae(self) -> Any:
        """The autoencoder of Stable Diffusion, 1.5 and XL alike."""
        from diffusers import AutoencoderKL

        channels = self._channels(128, 256, 512, 512)
        levels = len(channels)
        return AutoencoderKL(
            block_out_channels=channels,
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            scaling_factor=0.13025,
        ).eval()

    def text_encoders(self) -> tuple[Any, Any]:
        """CLIP ViT-L/14's and OpenCLIP ViT-bigG/14's."""
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        def config(hidden: int, layers: int, activation: str) -> CLIPTextConfig:
            (hidden,) = self._channels(hidden)
            return CLIPTextConfig(
                hidden_size=hidden,
                intermediate_size=4 * hidden,
                num_hidden_layers=layers if self._width == 1 else 2,
                num_attention_heads=max(1, hidden // 64),
                hidden_act=activation,
                projection_dim=1280,
                bos_token_id=49406,
                eos_token_id=49407,
            )

        first, second = config(768, 12, "quick_gelu"), config(1280, 32, "gelu")
        return CLIPTextModel(first).eval(), CLIPTextModelWithProjection(second).eval()

    def text_encoder(self) -> Any:
        """Stable Diffusion 1.5's."""
        return self.text_encoders()[0]


class Shallow:
    """Stands for `Random` where seconds count: modules of the same kinds with a few narrow layers, yet no narrower than
    ONNX Runtime CUDA's GroupNorm takes."""

    def __init__(self, width: float) -> None:
        del width
        self._blocks = {"block_out_channels": (128, 128), "layers_per_block": 1, "attention_head_dim": 2}

    def unet(self) -> Any:
        """SDXL-Inpainting's."""
        from grefine_export.models.inpaint import inpaint_unet

        return inpaint_unet(
            {
                **self._blocks,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "cross_attention_dim": 64,
                "pooled_dim": 1280,
            }
        )

    def pasd(self) -> Any:
        """PASD's."""
        from torch import nn

        from grefine_export.models.pasd import PasdUNet

        levels = {
            **self._blocks,
            "cross_attention_dim": 64,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        }
        model = PasdUNet({**levels, "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}, levels)
        for parameter in model.parameters():
            if not parameter.is_meta and not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        return model

    def vae(self) -> Any:
        """Stable Diffusion's."""
        from diffusers import AutoencoderKL

        return AutoencoderKL(
            block_out_channels=(128, 128, 128, 128),
            layers_per_block=1,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        ).eval()


def job(component: str, width: float) -> tuple[Any, str]:
    """What the exporters make of a random `component`, and the precision that is their default."""
    from grefine_export import inpaint_bundle, pasd_bundle
    from grefine_export.vae_component import decode_job, encode_job, precision_of

    source: Any = Random(width)
    stage, part = component.split("_")
    options: Any = inpaint_bundle.InpaintOptions() if stage == "inpaint" else pasd_bundle.RestoreOptions()
    precision = {"step": options.unet_precision, "text": options.text_precision}.get(part)
    if precision is None:
        single, upcast = ("fp32", True) if stage == "inpaint" else ("fp16-storage", False)
        precision = precision_of(
            options.vae_precision, options.unet_precision, source.vae, single, upcast=upcast
        )
    pasd: Any = SimpleNamespace(load=lambda weights: source.pasd())
    side = LARGEST
    jobs: dict[str, Callable[[], Any]] = {
        "inpaint_step": lambda: inpaint_bundle.step_job(source, [], options, side),
        "inpaint_text": lambda: inpaint_bundle.text_job(source, []),
        "restore_step": lambda: pasd_bundle.step_job(pasd, source, options, side),
        "restore_text": lambda: pasd_bundle.text_job(source),
        f"{stage}_encode": lambda: encode_job(source.vae, precision, side, True),
        f"{stage}_decode": lambda: decode_job(source.vae, precision, side, True),
    }
    return jobs[component](), precision


def export_one(component: str, file: Path, width: float) -> dict[str, Any]:
    """Make the random module and its graph, compare both; seconds, peak memory and sizes."""
    import torch

    from grefine_export.onnx.component import export_component

    torch.manual_seed(0)
    start = time.perf_counter()
    made, precision = job(component, width)
    parameters = sum(parameter.numel() for parameter in made.module.parameters())
    held = [made]
    del made  # the exporter gives its memory back before the graph is run
    error = export_component(
        file, held.pop, precision, {"random": width}, lambda line: print(line, flush=True)
    )
    size = sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))
    return {
        "parameters": parameters,
        "precision": precision,
        "export_s": time.perf_counter() - start,
        "export_peak_gib": _peak_gib(),
        "file_gib": size / 2**30,
        "error": error,
    }


def run_one(component: str, file: Path) -> dict[str, Any]:
    """Load the graph as the runtime does and run it once. Raises ValueError for what is not finite or misshapen."""
    import numpy as np

    from grefine_rt.contract import Schedule
    from grefine_rt.diffusion.solver import step_table
    from grefine_rt.diffusion.tiling import tiled_decode, tiled_encode
    from grefine_rt.engine.onnxruntime.session import OnnxEngine

    start = time.perf_counter()
    engine = OnnxEngine(file, "cpu")
    loaded = time.perf_counter()
    rng, cells = np.random.default_rng(0), SIDE // 8
    rows = step_table(Schedule(1000, 0.00085, 0.012, "leading", 1), "euler", 10, 0.7, guidance=5.0)
    axes: dict[Any, Any] = {"h": cells, "w": cells, "H": SIDE, "W": SIDE, "n": ROWS, "L": LENGTH}

    def given(name: str, shape: Sequence[int | str]) -> Any:
        if name.startswith("ids"):
            return np.tile(np.append(49406, np.full(LENGTH - 1, 49407)), (ROWS, 1))
        if name == "coefficients":
            return rows.coefficients[0, : shape[0]]
        if name == "timestep":
            return rows.timesteps[:1]
        values = rng.standard_normal([axes.get(axis, axis) for axis in shape], np.float32)
        return (values > 0).astype(np.float32) if name == "mask" else values

    latent = (1, 4, cells, cells)
    if component.endswith("encode"):
        results = {"latent": tiled_encode(engine, rng.random((SIDE, SIDE, 3), np.float32) * 2 - 1, 0)}
        wanted = {"latent": latent}
    elif component.endswith("decode"):
        results = {"image": tiled_decode(engine, rng.standard_normal(latent, np.float32), 0)}
        wanted = {"image": (SIDE, SIDE, 3)}
    else:
        results = engine.run({name: given(name, spec.shape) for name, spec in engine.inputs.items()})
        wanted = {
            name: tuple(axes.get(axis, axis) for axis in spec.shape) for name, spec in engine.outputs.items()
        }
    for name, shape in wanted.items():
        if results[name].shape != shape or not np.isfinite(results[name]).all():
            raise ValueError(
                f"{component}: '{name}' of shape {results[name].shape} is not finite, or not {shape}"
            )
    return {
        "load_s": loaded - start,
        "run_s": time.perf_counter() - loaded,
        "run_peak_gib": _peak_gib(),
        "outputs": {name: [*array.shape] for name, array in results.items()},
    }


def measure(component: str, out: Path, width: float) -> dict[str, Any]:
    """Export and run `component`, each in its own process, or what a run before found."""
    file, record = out / f"{component}.onnx", out / f"{component}.record.json"
    if record.is_file():
        done: dict[str, Any] = json.loads(record.read_text())
        if done["width"] == width:
            return done
    exported = _alone(export_one, component, file, width)
    done = {"component": component, "width": width, **exported, **_alone(run_one, component, file)}
    record.write_text(json.dumps(done, indent=1))
    return done


def _alone(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _peak_gib() -> float:
    from grefine_rt.system_memory import peak_memory

    return (peak_memory() or 0) / 2**30


def markdown(records: Sequence[dict[str, Any]]) -> str:
    """The records as a table."""
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    for one in records:
        figures = (one["export_s"], one["export_peak_gib"], one["file_gib"])
        run = (one["load_s"], one["run_s"], one["run_peak_gib"])
        cells = [one["component"], f"{one['parameters'] / 1e9:.4f}", one["precision"]]
        cells += [f"{figure:.2f}" for figure in figures] + [f"{one['error']:.1e}"]
        lines.append(" | ".join([*cells, *(f"{figure:.2f}" for figure in run)]))
    return "\n".join(f"| {line} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)}; all by default")
    parser.add_argument("--out", type=Path, required=True, help="folder for the graphs and the records")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--width", type=float, default=1.0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := {*options.groups} - {*GROUPS}:
        parser.error(f"unknown group '{min(unknown)}': use {', '.join(GROUPS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    records = []
    for component in (name for group in options.groups or GROUPS for name in GROUPS[group]):
        try:
            records.append(measure(component, options.out, options.width))
        except BrokenProcessPool:
            print(
                f"Error: {component}: the process was killed, most likely for want of memory", file=sys.stderr
            )
            return 1
        except Exception as error:
            print(f"Error: {component}: {error}", file=sys.stderr)
            return 1
        if options.json:
            options.json.write_text(json.dumps(records, indent=1) + "\n")
    print(markdown(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
