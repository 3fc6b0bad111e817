"""The prompt of a picture: from the file beside it, else from the picture itself."""

from dataclasses import replace
from pathlib import Path

from grefine_rt.errors import PromptError
from grefine_rt.imaging.prompts import infotext
from grefine_rt.imaging.prompts.found import MAX_FIELD, FoundPrompt, read_object
from grefine_rt.imaging.prompts.read import TextFields, read_prompt


def side_file(image: Path) -> Path:
    """IMAGE's namesake that ends in .txt."""
    return image.with_suffix(".txt")


def find_prompt(image: Path | None, fields: TextFields) -> FoundPrompt | None:
    """The prompt in `side_file`, plain or as AUTOMATIC1111 writes it, else the one in the picture, else None.

    Raises PromptError for a side file that cannot be read or says nothing.
    """
    beside = None if image is None else read_side_file(side_file(image))
    return beside or read_prompt(fields)


def read_side_file(path: Path) -> FoundPrompt | None:
    """None where there is no such file. Raises PromptError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FIELD + 1)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise PromptError(f'The prompt in "{path}" cannot be read: {reason}; give --prompt TEXT.') from None
    if len(data) > MAX_FIELD:
        raise PromptError(f'The prompt in "{path}" has more than {MAX_FIELD >> 20} MiB: give --prompt TEXT.')
    # A workflow saved beside its picture is read like one within.
    found = read_prompt(TextFields({"prompt": text})) if read_object(text) else infotext.read(text)
    if found is None:
        raise PromptError(f'The prompt in "{path}" is empty: write into it what the picture should show.')
    return replace(found, field=f'"{path.name}"')
