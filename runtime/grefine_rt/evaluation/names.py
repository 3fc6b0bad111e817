"""Names of the databases and of their parts, declared once."""

from typing import Literal

Dataset = Literal["agiqa-1k", "agiqa-3k", "aigiqa-20k"]
Split = Literal["train", "val", "test"]
