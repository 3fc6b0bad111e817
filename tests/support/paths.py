"""Where the repository and the embedded bundle lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "engines" / "mini"
