"""What examples/ shows runs, and says what it should."""

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
    assert all(said.startswith("alignment ") and said.endswith(" ms") for said in answers.values())
