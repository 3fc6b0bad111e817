"""The readings of the papers where they can be read in more than one way: every value, declared once.

A bundle says which reading its constants were fitted for (`bundle/manifest.py`); options of a call say another.
"""

from typing import Literal

Scoring = Literal["calibrated", "published"]
Factors = Literal["overall", "product"]
Bounds = Literal["own", "first"]
Upsampling = Literal["bicubic", "bilinear"]
AdjectiveRule = Literal["penalised", "printed"]
AlignmentScore = Literal["phrases", "reward"]
Joining = Literal["union", "product"]
MissingRegion = Literal["ancestor", "printed", "free"]
StrengthRule = Literal["deficit", "printed"]
Redraw = Literal["poor", "misshapen"]
Decoding = Literal["plain", "difference", "quality"]
ColorFix = Literal["quality", "whole", "off"]

Outside = Literal["refuse", "refine"]
"""What `refine` does with a picture unlike those that the bundle was made for."""

WINDOW = 0.25
"""Share of the picture that a missing thing without a region may take, unless an option says another."""
