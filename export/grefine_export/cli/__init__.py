"""`grefine-export`: makes the bundles that `grefine-rt` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grefine_export.choices import Attention
from grefine_export.cli.blip import blip
from grefine_export.cli.bundle import bundle
from grefine_export.cli.clip import clip
from grefine_export.cli.inpaint import inpaint
from grefine_export.cli.ip_iqa import ip_iqa
from grefine_export.cli.learn import app as learn
from grefine_export.cli.pasd import pasd
from grefine_rt.errors import HERE

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


app.command()(bundle)
app.command()(clip)
app.command()(blip)
app.command("ip-iqa")(ip_iqa)
app.command()(inpaint)
app.command()(pasd)
app.add_typer(learn, name="learn")


@app.callback()
def _commands() -> None:
    """Make bundles for grefine-rt: train, export and calibrate models."""


@app.command()
def mini(
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")] = Path("engines/mini"),
    work: Annotated[
        Path, typer.Option(help="Pictures, checkpoints and logs; a run goes on from here.")
    ] = Path("runs/mini"),
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all cores if not given.")] = None,
    smoke: Annotated[bool, typer.Option(help="Every stage for a few steps: does it run?")] = False,
    attention: Annotated[Attention, typer.Option(help="Reading of Eq. 1 for T_p and the graphs.")] = "vv",
    weights: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder with NAME.safetensors of trainings that were done or begun elsewhere, to go on from.",
        ),
    ] = None,
    large: Annotated[
        bool, typer.Option(help="The budget of a data-centre GPU instead of two CPU cores.")
    ] = False,
) -> None:
    """Train the embedded bundle from nothing: pictures, all models, T_p, constants, graphs."""
    import torch

    from grefine_export.mini.pipeline import GPU, SMOKE, Budget, run
    from grefine_export.mini.training import bring_weights

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        typer.echo("error: PyTorch sees no CUDA device here: use --device cpu.", err=True)
        raise typer.Exit(1)
    if threads is not None:
        torch.set_num_threads(threads)
    if weights is not None:
        bring_weights(weights, work)
    budget = SMOKE if smoke else GPU if large else Budget()
    figures = run(budget, work, out, torch.device(device), say=typer.echo, attention=attention)
    for name, value in figures.items():
        typer.echo(f"{name}: {value:.4f}")


def main() -> None:
    """Entry point of the console script. Exit codes as of `grefine-rt`; without the extra's packages one sentence."""
    try:
        app()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "grefine_export", "grefine_rt"):
            raise
        typer.echo(
            f"error: grefine-export needs the package '{package}', which is not installed: run 'pip install .[export]' "
            f"{HERE}.",
            err=True,
        )
        raise SystemExit(1) from None
