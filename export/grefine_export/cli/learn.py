"""`grefine-export learn`: the trainings of the papers, on databases of generated pictures and opinions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grefine_export.choices import Head, Positions, Report, TextSide
from grefine_export.cli.learning import (
    assessed,
    clear_errors,
    device_of,
    present,
    same_run,
    side_of,
    tokenizer_of,
)
from grefine_rt.evaluation.names import Dataset, Split

if TYPE_CHECKING:
    import torch

    from grefine_export.learn.epochs import Recipe
    from grefine_export.learn.ip_iqa import Ingredients
    from grefine_export.models.ip_iqa import IpIqa
    from grefine_rt.evaluation.databases import Rated
    from grefine_rt.text.tokenizer import PromptTokenizer

app = typer.Typer(no_args_is_help=True, help="Learn from databases: Image2Prompt, IP-IQA, T_p, constants.")

DatasetOption = Annotated[Dataset, typer.Option(help="The database, in its published layout.")]
RootOption = Annotated[Path, typer.Option(help="Folder into which the database was unpacked.")]
SplitOption = Annotated[
    Split | None, typer.Option(help="A part of AIGIQA-20K; all parts that are there by default.")
]
ClipOption = Annotated[
    str, typer.Option(help="A CLIP checkpoint in any form that `clip` takes, or its hub id.")
]
TokenizerOption = Annotated[
    Path | None, typer.Option(help="Folder or file of CLIP's tokenizer, where none lies beside --clip.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that read pictures.")]
FastOption = Annotated[bool, typer.Option(help="Matrix products in bfloat16: about twice as fast.")]


@app.command()
def image2prompt(
    clip: ClipOption,
    root: Annotated[Path, typer.Option(help="Folder into which parts of DiffusionDB were unpacked.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the new checkpoint; a stopped run goes on from its folder `work`.")
    ],
    tokenizer: TokenizerOption = None,
    threshold: Annotated[float, typer.Option(help="CLIP cosine above which a pair is kept.")] = 0.35,
    epochs: Annotated[int, typer.Option(min=1, help="Times that every kept pair is seen.")] = 1,
    batch: Annotated[int, typer.Option(min=2, help="Pictures in a step.")] = 128,
    rate: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-5,
    resolution: Annotated[int, typer.Option(help="Side of the pictures, pixels, a multiple of 32.")] = 224,
    workers: WorkersOption = 4,
    bfloat16: FastOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Train the image side of a CLIP ResNet on generated pictures and their prompts (IP-IQA 3.3).

    The paper gives the threshold and no more; the other defaults are ours. `--out` is a checkpoint for `ip-iqa`.
    """
    with clear_errors():
        from safetensors.torch import save_file

        from grefine_export.checkpoints import locate, read_tensors
        from grefine_export.learn.epochs import Recipe
        from grefine_export.learn.image2prompt import matching_pairs, pretrain, read_diffusiondb
        from grefine_export.models.clip_loading import load_resnet
        from grefine_export.models.clip_resnet import to_openai
        from grefine_export.models.ip_iqa import encoders

        recipe = Recipe(epochs, batch, rate, side_of(resolution), workers=workers, bfloat16=bfloat16)
        pairs = read_diffusiondb(root)
        same_run(out, recipe, clip=clip, pairs=len(pairs), threshold=threshold)
        path = locate(clip)
        model = load_resnet(path)
        words = tokenizer_of(path, tokenizer, model.text_model.config, out)
        image, text = encoders(model, qa_token=False)
        image.to(where := device_of(device))
        text.to(where)
        kept, features = matching_pairs(
            image,
            text,
            words,
            pairs,
            out / "work",
            resolution=resolution,
            workers=workers,
            say=typer.echo,
            threshold=threshold,
        )
        pretrain(image, kept, features, recipe, out / "work", typer.echo)
        tensors = read_tensors(path) | to_openai(image.trunk, image.pool)
        save_file(
            {name: value.clone().contiguous() for name, value in tensors.items()}, out / "model.safetensors"
        )
        config = (path if path.is_dir() else path.parent) / "open_clip_config.json"
        if config.is_file():  # it says which activation the text side has
            shutil.copyfile(config, out / config.name)
    typer.echo(f"checkpoint: {out}")


_Out = Annotated[Path, typer.Option(help="Folder of results and weights; a stopped run goes on from here.")]
_Image2prompt = Annotated[
    Path | None,
    typer.Option(help="Folder that `learn image2prompt` wrote, to start the image side from."),
]
_Head = Annotated[Head, typer.Option(help="mlp as in the authors' code, linear as in the paper.")]
_Positions = Annotated[
    Positions,
    typer.Option(
        help="own: the cross-modality pool has a position table of its own, as in the authors' code; shared: one "
        "table, as Eq. 5 is printed."
    ),
]
_TextSide = Annotated[
    TextSide,
    typer.Option(
        help="What learns of the text side. qa: the [QA] token alone, as in the paper; table: as in the authors' "
        "code, the whole table of embeddings, the positions and the projection."
    ),
]
_Report = Annotated[
    Report,
    typer.Option(
        help="Epoch that each split reports. best-on-test is what the authors' code does: it chooses with the "
        "answers of the test, so its figures are too good."
    ),
]
_Ablation = Annotated[
    bool, typer.Option(help="Evaluate all five rows of IP-IQA's Table 3; needs --image2prompt.")
]
_Repeats = Annotated[int, typer.Option(min=0, help="Random 80/20 splits that are averaged; 0 only trains.")]
_Epochs = Annotated[int, typer.Option(min=1, help="Times that every picture is seen.")]
_Batch = Annotated[
    int, typer.Option(min=2, help="Pictures in a step: 40 in the paper, 32 in the authors' code.")
]
_Rate = Annotated[float, typer.Option(help="Learning rate of Adam, constant.")]
_HeadRate = Annotated[
    float, typer.Option(min=0, help="Factor of the rate for the head: 1 in the paper, 10 in the code.")
]
_Resolution = Annotated[int, typer.Option(help="Side of the pictures, pixels: 512, or 224 for speed.")]


@app.command("ip-iqa")
def ip_iqa(
    dataset: DatasetOption,
    root: RootOption,
    clip: ClipOption,
    out: _Out,
    image2prompt: _Image2prompt = None,
    tokenizer: TokenizerOption = None,
    split: SplitOption = None,
    head: _Head = "mlp",
    positions: _Positions = "own",
    text_side: _TextSide = "qa",
    report: _Report = "last",
    ablation: _Ablation = False,
    repeats: _Repeats = 10,
    epochs: _Epochs = 100,
    batch: _Batch = 40,
    rate: _Rate = 1e-5,
    head_rate: _HeadRate = 1.0,
    resolution: _Resolution = 512,
    workers: WorkersOption = 4,
    bfloat16: FastOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Train IP-IQA: first the evaluation of the paper, then weights from all pictures, `ip_iqa.safetensors`.

    The authors' code trains with `--text-side table --head-rate 10 --batch 32 --report best-on-test`. `grefine-export
    ip-iqa` puts the weights into a bundle.
    """
    with clear_errors():
        import torch

        from grefine_export.checkpoints import locate
        from grefine_export.learn.epochs import Recipe
        from grefine_export.learn.ip_iqa import TABLE_3, Ingredients, fit, maker, titled
        from grefine_export.models.clip_loading import load_resnet
        from grefine_export.models.ip_iqa import Design, save
        from grefine_rt.evaluation import databases

        if ablation and image2prompt is None:
            raise ValueError("--ablation compares with and without Image2Prompt: give --image2prompt")
        side = side_of(resolution)
        recipe = Recipe(epochs, batch, rate, side, workers=workers, bfloat16=bfloat16, head_rate=head_rate)
        rated = present(databases.read(dataset, root, split))
        asked = {"dataset": dataset, "split": split, "clip": clip, "image2prompt": image2prompt, "head": head}
        choices = {"positions": positions, "text_side": text_side, "report": report}
        same_run(out, recipe, **asked, **choices)
        clips = {False: load_resnet(path := locate(clip))}
        clips |= {True: load_resnet(image2prompt)} if image2prompt else {}
        words = tokenizer_of(path, tokenizer, clips[False].text_model.config, out)
        make = maker(clips, resolution, Design(tuple(rated[0].scores), head, positions=positions), text_side)
        where = device_of(device)
        full = TABLE_3[-1] if image2prompt else Ingredients(image2prompt=False)
        if repeats:
            rows = TABLE_3 if ablation else (full,)
            _cross_validate(rows, dataset, make, rated, words, recipe, out, where, repeats, report)
        torch.manual_seed(recipe.seed)
        say = titled("all pictures", typer.echo)
        trained = fit(make(full), rated, words, recipe, out / "all.pt", where, say)
        weights = save(trained.cpu(), out / "ip_iqa.safetensors", resolution)
    typer.echo(f"weights: {weights}")


def _cross_validate(
    rows: Sequence[Ingredients],
    dataset: Dataset,
    make: Callable[[Ingredients], IpIqa],
    rated: Sequence[Rated],
    words: PromptTokenizer,
    recipe: Recipe,
    out: Path,
    device: torch.device,
    repeats: int,
    report: Report,
) -> None:
    """The paper's evaluation of each row, as a table on the terminal and in `out`."""
    from grefine_export.learn.ip_iqa import PUBLISHED, cross_validate, table

    found = {
        row: cross_validate(
            make, rated, words, row, recipe, out / "splits", device, typer.echo, repeats, report
        )
        for row in rows
    }
    text = table(found, PUBLISHED.get(dataset))
    (out / "table.md").write_text(text, encoding="utf-8")
    typer.echo(f"\n{text}")


@app.command("t-p")
def t_p(
    dataset: DatasetOption,
    root: RootOption,
    clip: ClipOption,
    out: Annotated[
        Path, typer.Option(help="Folder of the contexts, for `clip --contexts`, and of alpha.json.")
    ],
    tokenizer: TokenizerOption = None,
    split: SplitOption = None,
    contexts: Annotated[
        Path | None, typer.Option(help="Folder of contexts to start from, such as the published ones.")
    ] = None,
    class_word: Annotated[
        str, typer.Option(help="Three tokens in the middle of every context.")
    ] = "picture good quality",
    epochs: Annotated[int, typer.Option(min=1, help="Times that every picture is seen.")] = 50,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the pictures, pixels; the checkpoint's own by default.")
    ] = None,
    workers: WorkersOption = 4,
    device: DeviceOption = "auto",
) -> None:
    """Learn T_p (G-Refine 3.1), encoders frozen, and fit alpha to the pictures that people rated best."""
    with clear_errors():
        import json

        import numpy as np
        import torch

        from grefine_export.checkpoints import locate
        from grefine_export.learn import t_p_database
        from grefine_export.learn.t_p import PromptContexts
        from grefine_export.models.clip_loading import at_size, image_size, load_clip, surgery
        from grefine_export.models.clip_tokenizer import ends, read_tokenizer
        from grefine_rt.evaluation import databases

        rated = present(databases.read(dataset, root, split))
        model = load_clip(path := locate(clip))
        encoder = surgery(at_size(model, resolution or image_size(model)))
        own = path if path.is_dir() else path.parent
        words = read_tokenizer(tokenizer or own, model.text_model.config.vocab_size)
        opinions = np.array([one.scores["quality"] for one in rated])
        best_first = np.argsort(-opinions, kind="stable")
        opinions = t_p_database.normalised(opinions[best_first])
        torch.manual_seed(0)
        ids = words.encode(class_word, add_special_tokens=False).ids
        learned = PromptContexts(encoder, ids, *ends(words))
        if contexts:
            t_p_database.load_contexts(learned, contexts)
        paths = [rated[row].path for row in best_first]
        tokens, sound = t_p_database.encode(
            encoder, paths, image_size(model), workers, device_of(device), typer.echo
        )
        sound = sound[: max(1, int((opinions == 1).sum()))]
        terms, alpha = t_p_database.learn_contexts(learned, tokens, sound, opinions, epochs)
        t_p_database.save_contexts(learned, out)
        (out / "alpha.json").write_text(json.dumps([round(value, 4) for value in alpha]), encoding="utf-8")
    typer.echo(f"last batch: squared error {terms['mse']:.4f}, PLCC {terms['plcc']:.4f}")
    typer.echo(f"alpha: {', '.join(f'{value:.4f}' for value in alpha)}")
    typer.echo(f"contexts: {out}")


@app.command()
def alignment(
    dataset: DatasetOption,
    root: RootOption,
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle whose constants are fitted, in place.")],
    device: Annotated[str, typer.Option(help="cpu, cuda or auto, for ONNX Runtime.")] = "auto",
) -> None:
    """Fit the softmax temperature, beta and a_bound (G-Refine 3.2) to opinions on alignment."""
    with clear_errors():
        import dataclasses

        from grefine_export.learn.alignment import fit, gather, observe
        from grefine_rt import Assessor
        from grefine_rt.bundle.store import write
        from grefine_rt.evaluation import databases

        rated = present(databases.read(dataset, root))
        if "alignment" not in rated[0].scores:
            raise ValueError(f"'{dataset}' has no opinions on alignment: give agiqa-3k")
        with Assessor.load(bundle, device) as assessor:
            manifest = assessor.bundle.manifest
            observed, opinions = [], []
            for one, assessment in assessed(assessor, rated):
                observed.append(observe(assessment, manifest.alignment))
                opinions.append(one.scores["alignment"])
        found = fit(gather(observed, opinions))
        fitted = dataclasses.replace(
            manifest.alignment,
            temperature=round(found.temperature, 4),
            beta=round(found.beta, 5),
            a_bound=round(found.a_bound, 5),
        )
        write(bundle, dataclasses.replace(manifest, alignment=fitted))
    for name, value in dataclasses.asdict(found).items():
        typer.echo(f"{name}: {value:.4f}")
