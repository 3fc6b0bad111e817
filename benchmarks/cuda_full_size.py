"""The models of the real sizes on a CUDA GPU, random weights in half precision, against diffusers and transformers.

    pip install '.[gpu]' torch diffusers transformers onnx onnxscript
    python -m benchmarks.cuda_full_size --json cuda.json [--part sdxl] [--part pasd] [--part clip] [--graphs DIR]

    sdxl   stage 1 with SDXL-Inpainting's UNet and autoencoder: 10 steps at strength 0.99, guidance 7.5, 1024 x 1024
    pasd   stage 2 with PASD's UNet and ControlNet, the same steps, picture and noise for both sides
    clip   ViT-B/16 with both indicators at batch 1 and 16

Nothing is fetched. Ours is the loop on ONNX Runtime, the peers are diffusers or torch modules as they are ("eager") and
with torch.compile ("compiled"), in turn in the same run; stages get their texts encoded on both sides. Beside seconds
and ratios the JSON holds the UNet's share of the peak that a large matrix product reaches here, and onnxruntime's
profile by operator, the 15 that take longest. Graphs in DIR and finished parts in the JSON are not made again;
`--export` makes the graphs alone, which takes longest. `--device cpu --width 0.05 --side 128` tries the script without
a GPU, in single precision. It has not met a GPU yet.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")
PARTS = ("sdxl", "pasd", "clip")


def lines(part: str, found: Mapping[str, Any]) -> list[str]:
    """The figures of a part, for people."""
    if part == "clip":
        return [f"{part}, {batch}: {_ratios(row)}" for batch, row in found.items()]
    step = found["step"]
    said = [
        f"{part}: {_ratios(found)}",
        f"  step {step['ms']:.1f} ms, {step['tflops']:.2f} of {found['peak_tflops']:.2f} TFLOP/s "
        f"({100 * found['share_of_peak']:.0f} %); {100 * found['outside']:.2f} % of the call outside of engine runs",
    ]
    return said + [
        f"  {row['operator']}: {row['ms']:.2f} ms in {row['nodes']} nodes, {100 * row['share']:.0f} %"
        for row in found["profile"]
    ]


def _ratios(found: Mapping[str, Any]) -> str:
    peers = "".join(
        f"; {name} {row['median']:.2f} times ours ({row['low']:.2f} to {row['high']:.2f})"
        for name, row in found["ratios"].items()
    )
    return f"ours {statistics.median(found['seconds']['ours']):.3f} s{peers}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="one of them; all by default")
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--graphs", type=Path, default=Path("graphs"), help="folder that keeps the graphs")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--export", action="store_true", help="make the graphs alone, which needs no GPU")
    parser.add_argument("--nhwc", action="store_true", help="our UNet's convolutions in cuDNN's own layout")
    parser.add_argument("--cuda-graphs", action="store_true", help="our UNet's steps as CUDA graphs")
    parser.add_argument("--side", type=int, default=1024, help="of the picture, in pixels")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--width", type=float, default=1.0, help="below 1: narrower models, to try the script"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    given = _parser().parse_args(arguments)
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"Error: the package '{missing[0]}' is not installed: run 'pip install {missing[0]}'.",
            file=sys.stderr,
        )
        return 1
    from benchmarks import cuda_parts
    from grefine_rt.bench import machine
    from grefine_rt.engine.onnxruntime.session import NO_CUDA, has_cuda
    from grefine_rt.errors import DeviceError, GRefineError

    options = cuda_parts.Options(
        given.device,
        given.width,
        given.side,
        given.runs,
        not given.no_compile,
        given.graphs,
        given.nhwc,
        given.export,
        given.cuda_graphs,
    )
    setting = {name: getattr(options, name) for name in ("width", "side", "device", "nhwc", "cuda_graphs")}
    result: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        result = json.loads(given.json.read_text(encoding="utf-8"))
    if result.get("setting") != setting:
        versions = {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "transformers")}
        result = {"setting": setting, "machine": machine(), "versions": versions}
    try:
        if options.device == "cuda" and not options.export and not has_cuda():
            raise DeviceError(f"Device 'cuda' was asked for, but {NO_CUDA}.")
        options.graphs.mkdir(parents=True, exist_ok=True)
        for part in given.part or PARTS:
            if options.export:
                getattr(cuda_parts, part)(options)
                continue
            if part not in result:
                result[part] = getattr(cuda_parts, part)(options)
                given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print("\n".join(lines(part, result[part])), flush=True)
    except (GRefineError, OSError, RuntimeError) as error:
        print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
