"""Schemathesis against the service's own OpenAPI document, over real HTTP; skipped where it is not installed."""

import re
import subprocess
import sys

import pytest

from tests.support.service import serving

pytest.importorskip("schemathesis")
pytestmark = pytest.mark.slow

WRITE = "/v1/(refine|assess|plan|prompt)"
"""No schema can say that a text is a picture, so these may refuse what keeps theirs."""


@pytest.mark.parametrize(
    "choice",
    [
        ("--include-path-regex", WRITE, "--exclude-checks", "positive_data_acceptance"),
        ("--exclude-path-regex", WRITE),
    ],
)
def test_no_answer_is_beside_the_document(tmp_path, choice):
    with serving() as client:
        command = [sys.executable, "-m", "schemathesis.cli", "run", *choice, "--checks", "all"]
        phases = [
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "15",
            "--seed",
            "1",
            "--no-color",
        ]
        done = subprocess.run(
            [*command, *phases, f"http://127.0.0.1:{client.port}/v1/openapi.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"generated, \d+ passed$", done.stdout, re.MULTILINE), done.stdout
