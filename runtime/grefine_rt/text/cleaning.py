"""What CLIP's tokenizer does to a text before it looks words up: mend, unescape, one blank, lower case."""

from __future__ import annotations

import html
import re

_BLANKS = re.compile(r"\s+")


def clip_text(text: str) -> str:
    """`text` as OpenAI's tokenizer of CLIP hands it to its byte pairs.

    The steps are ftfy's `fix_text`, HTML entities resolved twice, blanks trimmed and joined, lower case. Tokenizer
    files hold only the last two.
    """
    # ftfy leaves plain printable ASCII as it is, so most prompts need not wait for its import.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _BLANKS.sub(" ", text).strip().lower()
