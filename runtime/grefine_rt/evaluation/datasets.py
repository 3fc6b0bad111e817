"""The databases that are read, by name, and their parts."""

from typing import Literal

Dataset = Literal["agiqa-1k", "agiqa-3k", "aigiqa-20k"]
Split = Literal["train", "val", "test"]
