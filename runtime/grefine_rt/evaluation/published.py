"""Agreement with opinions as the two papers report it: G-Refine's Tables 6 and 7, IP-IQA's Tables 1 to 3.

IP-IQA's own rows are of the epoch that agreed best with the TEST side, by the authors' public code (`REMARK`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grefine_rt.evaluation.names import Dataset

REMARK = (
    "IP-IQA's published figures are of the best epoch on the test side, chosen with its opinions: figures of the last "
    "epoch are lower."
)
"""The remark that stands wherever IP-IQA's own figures stand beside ours."""


@dataclass(frozen=True)
class Published:
    """One row of a paper's table for one database: method, the opinion it was compared with, and correlations.

    `opinion` is a name in `Rated.scores`. `score` is the name of our score after this method,
    None for methods of others and for ablations. `krcc` may be missing in a paper, and is None then.
    """

    table: str
    method: str
    dataset: Dataset
    opinion: str
    srcc: float
    plcc: float
    krcc: float | None
    score: str | None = None


_SCORES = {
    ("PQ-Map", "quality"): "perceptual",
    ("AQ-Map", "quality"): "alignment",
    ("AQ-Map", "alignment"): "alignment",
    ("IP-IQA", "quality"): "ip_iqa_quality",
    ("IP-IQA", "alignment"): "ip_iqa_alignment",
}
"""Our score of a method, by the method's name and the opinion it is compared with."""

# Method, then SRCC and PLCC on AIGIQA-20K and on AGIQA-3K.
_G_REFINE_6 = (
    ("DBCNN", 0.8506, 0.8688, 0.7488, 0.7407),
    ("CLIPQA", 0.7500, 0.6375, 0.6364, 0.4518),
    ("CNN-IQA", 0.5968, 0.5483, 0.5913, 0.5418),
    ("HyperIQA", 0.8223, 0.5209, 0.8407, 0.4901),
    ("NIMA", 0.8466, 0.7851, 0.8764, 0.7954),
    ("Paq2Piq", 0.1709, 0.5030, 0.2928, 0.5727),
    ("PQ-Map", 0.7073, 0.6910, 0.7054, 0.7084),
)
_G_REFINE_7 = (
    ("CLIPScore", 0.4033, 0.4903, 0.4701, 0.5341),
    ("ImageReward", 0.6113, 0.6620, 0.7298, 0.7862),
    ("HPS", 0.5550, 0.4971, 0.6349, 0.7000),
    ("HPSv2", 0.6053, 0.6385, 0.6061, 0.7164),
    ("PicScore", 0.5923, 0.6106, 0.6977, 0.7633),
    ("CLIP Surgery", 0.4160, 0.5225, 0.5441, 0.6648),
    ("AQ-Map", 0.6117, 0.6797, 0.7303, 0.7862),
)
# Method, then SRCC, PLCC and KRCC on AGIQA-1K and on AGIQA-3K (quality).
_IP_IQA_1 = (
    ("CEIQ", 0.3069, 0.2836, 0.2097, 0.3228, 0.4166, 0.2220),
    ("NIQE", -0.5490, -0.5048, -0.3824, 0.5623, 0.5171, 0.3876),
    ("DSIQA", -0.3047, -0.0559, -0.2148, 0.4955, 0.5488, 0.3403),
    ("SISBLIM", -0.1309, -0.3575, -0.0889, 0.5479, 0.6477, 0.3788),
    ("GMLF", 0.5575, 0.6356, 0.4052, 0.6987, 0.8181, 0.5119),
    ("HIGRADE", 0.4056, 0.4425, 0.2860, 0.6171, 0.7056, 0.4410),
    ("DBCNN", 0.7491, 0.8211, 0.5618, 0.8207, 0.8759, 0.6336),
    ("CNNIQA", 0.5800, 0.7139, 0.4095, 0.7478, 0.8469, 0.5580),
    ("CLIPIQA", 0.8227, 0.8411, 0.6399, 0.8426, 0.8053, 0.6468),
    ("HyperNet", 0.7803, 0.8299, 0.5943, 0.8355, 0.8903, 0.6488),
    ("ResNet50", 0.7136, 0.7576, 0.5254, 0.6744, 0.7365, 0.4887),
    ("ResNet50, pretrained", 0.7914, 0.8404, 0.6064, 0.8306, 0.8929, 0.6465),
    ("IP-IQA", 0.8401, 0.8922, 0.6635, 0.8634, 0.9116, 0.6844),
)
_IP_IQA_3 = (
    ("CLIP's ResNet50", 0.8105, 0.8595, 0.6173, 0.8398, 0.8978, 0.6561),
    ("with Image2Prompt", 0.8180, 0.8703, 0.6501, 0.8491, 0.9031, 0.6690),
    ("with the prompt", 0.8317, 0.8706, 0.6532, 0.8442, 0.9008, 0.6612),
    ("with both", 0.8383, 0.8782, 0.6603, 0.8595, 0.9084, 0.6798),
    ("with both and [QA]", 0.8401, 0.8922, 0.6635, 0.8634, 0.9116, 0.6844),
)
# Method, then SRCC, PLCC and KRCC on AGIQA-3K (alignment).
_IP_IQA_2 = (
    ("CLIPScore", 0.5972, 0.6839, 0.4591),
    ("ImageReward", 0.7298, 0.7862, 0.5390),
    ("HPS", 0.6349, 0.7000, 0.4580),
    ("StairReward", 0.7472, 0.8529, 0.5554),
    ("IP-IQA", 0.7578, 0.8544, 0.5734),
)


def published(dataset: Dataset) -> tuple[Published, ...]:
    """The rows that the papers report on a database, table by table and in their order."""
    return tuple(row for row in _rows() if row.dataset == dataset)


def remarks(rows: Sequence[Published]) -> tuple[str, ...]:
    """The remarks that belong beside these rows: `REMARK` if one of them is IP-IQA's own."""
    own = any(row.table.startswith("IP-IQA") for row in rows)
    return (REMARK,) if own else ()


def _rows() -> Iterator[Published]:
    # The one opinion of AIGIQA-20K serves both of G-Refine's tables.
    for table, rows, opinion in (("6", _G_REFINE_6, "quality"), ("7", _G_REFINE_7, "alignment")):
        for method, *values in rows:
            yield _row(f"G-Refine, Table {table}", method, "aigiqa-20k", "quality", values[:2])
            yield _row(f"G-Refine, Table {table}", method, "agiqa-3k", opinion, values[2:])
    for number, table_rows in ((1, _IP_IQA_1), (3, _IP_IQA_3)):
        for method, *values in table_rows:
            yield _row(f"IP-IQA, Table {number}", method, "agiqa-1k", "quality", values[:3])
            yield _row(f"IP-IQA, Table {number}", method, "agiqa-3k", "quality", values[3:])
    for method, *values in _IP_IQA_2:
        yield _row("IP-IQA, Table 2", method, "agiqa-3k", "alignment", values)


def _row(table: str, method: str, dataset: Dataset, opinion: str, values: Sequence[float]) -> Published:
    srcc, plcc, *krcc = values
    score = _SCORES.get((method, opinion))
    return Published(table, method, dataset, opinion, srcc, plcc, krcc[0] if krcc else None, score)
