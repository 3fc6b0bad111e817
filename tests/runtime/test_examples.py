"""What examples/ shows runs, and says what it should."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_a_refiner_in_an_application_answers_every_request(mini):
    command = [sys.executable, str(EXAMPLES / "embed.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert answers.keys() == {*(path.stem for path in EXAMPLES.glob("*.png")), "rubbish"}
    assert answers.pop("rubbish").startswith("refused: ")
    assert answers.pop("photograph").startswith(
        "refused: The picture is unlike those that bundle 'mini' was made for"
    )
    assert all(said.startswith("alignment ") and said.endswith(" ms") for said in answers.values())


def test_the_tour_runs_from_its_first_cell_to_its_last(mini, monkeypatch):
    """Cell by cell, as a notebook does it: all share one namespace."""
    monkeypatch.chdir(EXAMPLES)
    cells = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] for cell in cells if cell["cell_type"] == "code")
    told, names = io.StringIO(), {}
    with contextlib.redirect_stdout(told):
        for at, cell in enumerate(cells):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"cell {at}", "exec"), names)
    names["refiner"].close()
    assert "changed outside the mask: 0 pixels" in told.getvalue()
    assert names["plan"].mask.any()
    assert names["result"].after.perceptual >= names["result"].before.perceptual
