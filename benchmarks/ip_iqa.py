"""IP-IQA on held-out storybook pictures: does the embedded one agree with opinions, and what do its ingredients do?

    python -m benchmarks.ip_iqa agreement [--bundle mini] [--splits 10] [--json FILE]
    python -m benchmarks.ip_iqa ablation --work runs/mini [--markdown FILE]

`agreement` scores the storybook database (`grefine_export.mini.rated`: prompts and seeds that no training has seen)
with the runtime and correlates the scores with the opinions on the test pictures of each grouped split. It fails below
the bars.

`ablation` trains IP-IQA with each of the ingredients of the paper's Table 3 on and off, ten splits each, from the
checkpoints that `grefine-export mini --work` left. It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from grefine_export.learn.ip_iqa import MEASURES, correlations, grouped_split
from grefine_export.mini.rated import write_database
from grefine_rt import Assessor
from grefine_rt.evaluation import databases
from grefine_rt.evaluation.evaluate import score_all

BARS = {"quality": 0.85, "alignment": 0.75}
"""SRCC, mean of the splits."""

Agreement = dict[str, dict[str, tuple[float, float]]]
"""Mean and standard deviation over the splits, by score and measure."""


def agreement(assessor: Assessor, root: Path, splits: int) -> Agreement:
    """Of the bundle's IP-IQA with the opinions in the database `root`, on the test side of each grouped split."""
    rated = databases.read("agiqa-3k", root)
    scored = score_all(assessor, rated)
    groups = [one.group for one in rated]
    found: Agreement = {}
    for name in BARS:
        scores = np.array([one.scores[f"ip_iqa_{name}"] for one in scored])
        opinions = np.array([one.opinions[name] for one in scored])
        each = [
            correlations(scores[rows], opinions[rows])
            for rows in (grouped_split(groups, number)[1] for number in range(splits))
        ]
        values = {measure: [getattr(one, measure) for one in each] for measure in MEASURES}
        found[name] = {measure: (float(np.mean(v)), float(np.std(v))) for measure, v in values.items()}
    return found


def table(found: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    """As Markdown."""
    lines = [
        "| IP-IQA | " + " | ".join(m.upper() for m in MEASURES) + " | bar (SRCC) | |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in found.items():
        cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in values.values()]
        verdict = "pass" if values["srcc"][0] >= BARS[name] else "FAIL"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {BARS[name]:.2f} | {verdict} |")
    return "\n".join(lines)


def ablation(work: Path) -> str:
    """Table 3 of the paper on the storybook database, as Markdown."""
    import torch
    from tokenizers import Tokenizer

    from grefine_export.mini import train_ip_iqa
    from grefine_export.mini.damaged import open_damaged
    from grefine_export.mini.pipeline import Budget
    from grefine_export.mini.pool import open_pool
    from grefine_export.mini.rated import open_rated
    from grefine_export.mini.train_clip import train_clip

    budget, device = Budget(), torch.device("cpu")
    tokenizer_file = work / "clip.json"
    if not tokenizer_file.is_file():
        sys.exit(f"error: '{work}' holds no training: run 'grefine-export mini --work {work}' first.")
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    pool = open_pool(work / "pool", budget.scenes)
    clip = train_clip(pool, tokenizer, work, budget.clip, device)  # there already: read from its checkpoint
    encoders = train_ip_iqa.train_image_encoders(
        clip,
        tokenizer,
        pool,
        open_damaged(pool, work / "pool"),
        open_rated(work / "pool", budget.ip_iqa.rated),
        work / "ip_iqa",
        budget.ip_iqa,
        device,
    )
    return train_ip_iqa.ablate(
        clip, encoders, tokenizer_file, work / "ip_iqa", budget.ip_iqa, device, lambda line: print(line)
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.ip_iqa", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["agreement", "ablation"])
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--versions", type=int, default=10, help="pictures of each prompt")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--work", type=Path, default=Path("runs/mini"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if options.what == "ablation":
        text = ablation(options.work)
        print(text)
        if options.markdown:
            options.markdown.write_text(text, encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        root = write_database(Path(folder) / "database", options.prompts, options.versions)
        assessor = Assessor.load(options.bundle, device="cpu", threads=options.threads)
        found = agreement(assessor, root, options.splits)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    sys.exit(any(found[name]["srcc"][0] < bar for name, bar in BARS.items()))


if __name__ == "__main__":
    main()
