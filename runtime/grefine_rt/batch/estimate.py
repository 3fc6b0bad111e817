"""The costs of refining rows, from their assessments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from grefine_rt.batch.records import Record


@dataclass
class Needs:
    """Numbers of rows by the stages that they need, and the costs: TFLOP by the bundle's own count, seconds here.

    assessed: rows that were assessed. stage1, stage2, both: rows that need this stage alone, or both. nothing: rows
    that need neither. failed: rows that cannot be done. tflop: of refining all, with every assessment and all drafts
    that may be made; None for a bundle without counted costs.
    """

    assessed: int = 0
    stage1: int = 0
    stage2: int = 0
    both: int = 0
    nothing: int = 0
    failed: int = 0
    tflop: float | None = None
    _looked: float = 0.0
    _spent_ms: float = 0.0

    def add(self, record: Record, refuses: bool) -> None:
        """Count a row that was assessed; `refuses` whether pictures outside the bundle's domain are refused."""
        outside = refuses and record.get("domain") is not None and not record["domain"]["inside"]
        if record["status"] == "failed" or outside:
            self.failed += 1
            return
        first, second = record.get("regenerate"), record.get("restore") or record.get("restore_first")
        self.both += bool(first and second)
        self.stage1 += bool(first and not second)
        self.stage2 += bool(second and not first)
        self.nothing += not (first or second)
        if record.get("tflop") is not None:
            self.tflop = (self.tflop or 0.0) + record["tflop"]
        if self.assessed and record.get("tflop_assess") is not None:  # the first row loads the graphs
            self._looked += record["tflop_assess"]
            self._spent_ms += record["timings_ms"]["assess"]
        self.assessed += 1

    def seconds(self, done: Iterable[Record] = ()) -> float | None:
        """Seconds of refining all rows, one at a time: at the rate of refined rows, else at the rate of assessing here.

        None if neither is known.
        """
        known = [record for record in done if record["status"] == "refined" and record.get("tflop")]
        looked = sum(record["tflop"] for record in known) or self._looked
        spent = sum(record["total_ms"] for record in known) or self._spent_ms
        return None if self.tflop is None or not looked else self.tflop * spent / looked / 1000
