"""A run in numbers of bounded size, whatever the number of its rows."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from grefine_rt.batch.records import Record

BINS = 40
SHOWN = 24
"""Records in each of the two lists."""
SCORES = {
    "perceptual": "Perceptual quality p",
    "alignment": "Prompt alignment a",
    "technical": "Technical quality",
    "rationality": "Rationality",
    "naturalness": "Naturalness",
}
"""Scores in [0, 1], with their names in words."""


@dataclass
class Histogram:
    """Values in [0, 1] counted in `BINS` equal bins."""

    counts: list[int] = field(default_factory=lambda: [0] * BINS)
    total: float = 0.0

    def add(self, value: float) -> None:
        self.counts[min(max(int(value * BINS), 0), BINS - 1)] += 1
        self.total += value

    @property
    def mean(self) -> float:
        return self.total / max(sum(self.counts), 1)


@dataclass
class Summary:
    """The summary of a batch. status, stages, reasons: numbers of rows by status, by the stages they needed, and of
    failed ones by reason; `examples` has one failed row for each reason. histograms: by the column's name. worst,
    improved: records, the most striking first. seconds: of work on all rows, which may have run side by side."""

    status: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    worst: list[Record] = field(default_factory=list)
    improved: list[Record] = field(default_factory=list)
    tflop: float = 0.0
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        return sum(self.status.values())


def summarise(records: Iterable[Record]) -> Summary:
    """The summary of records, read once."""
    found = Summary()
    worst: list[tuple[float, int, Record]] = []
    improved: list[tuple[float, int, Record]] = []
    for number, record in enumerate(records):
        found.status[record["status"]] += 1
        found.seconds += (record.get("total_ms") or 0.0) / 1000
        if record["status"] == "failed":
            reason = reason_of(record["error"])
            found.reasons[reason] += 1
            found.examples.setdefault(reason, f"{record['image']}: {record['error']}")
            continue
        found.tflop += record.get("tflop") or 0.0
        found.stages[stages_of(record)] += 1
        for key in (f"{name}_{when}" for name in SCORES for when in ("before", "after")):
            if (value := record.get(key)) is not None:
                found.histograms.setdefault(key, Histogram()).add(value)
        _keep(worst, (-last(record), -number, record))
        if gain(record) > 0:
            _keep(improved, (gain(record), -number, record))
    found.worst = [record for *_, record in sorted(worst, key=lambda item: item[:2], reverse=True)]
    found.improved = [record for *_, record in sorted(improved, key=lambda item: item[:2], reverse=True)]
    return found


def stages_of(record: Record) -> str:
    """The stages that a row needed, in words."""
    first, second = record.get("regenerate"), record.get("restore") or record.get("restore_first")
    if first:
        return "both stages" if second else "stage 1 alone"
    return "stage 2 alone" if second else "nothing"


def last(record: Record) -> float:
    """The sum p + a after the run, or as found where nothing was refined."""
    total = 0.0
    for name in ("perceptual", "alignment"):
        value: float = record[f"{name}_after" if f"{name}_after" in record else f"{name}_before"]
        total += value
    return total


def gain(record: Record) -> float:
    """By how much p + a rose."""
    return last(record) - float(record["perceptual_before"]) - float(record["alignment_before"])


def reason_of(sentence: str) -> str:
    """A sentence without the particulars of one picture: names in quotes, and numbers."""
    return re.sub(r"\d+(?:\.\d+)?", "N", re.sub(r'"[^"]*"', '"…"', sentence))


def _keep(best: list[tuple[float, int, Record]], item: tuple[float, int, Record]) -> None:
    # No two rows have the same number, so records are never compared.
    (heapq.heappush if len(best) < SHOWN else heapq.heappushpop)(best, item)
