"""What can go wrong, as a caller sees it.

Every failure that a user can cause or mend is a `GRefineError` whose text is one sentence: what is wrong, and
what to do next. The command line prints that sentence and exits with 1; an application can catch one class.
"""

HERE = "in the checkout of grefine-rt"
"""Where hints say to install from: nobody can be sure whose a name on a package index is. A wheel takes the same
extras, such as `pip install 'grefine_rt-0.1.0-py3-none-any.whl[cpu]'`."""


class GRefineError(Exception):
    """Base of every error that this package raises on purpose."""


class ImageError(GRefineError):
    """An image cannot be read, or has a size or kind that cannot be handled."""


class PromptError(GRefineError):
    """A prompt cannot be used."""


class BundleError(GRefineError):
    """A bundle is missing, incomplete, changed, of another format, or does not fit what it declares."""


class DomainError(GRefineError):
    """A picture is unlike those that a bundle was made for, and was not to be refined all the same."""


class DatasetError(GRefineError):
    """A database of rated pictures is missing, incomplete, or not in the layout that was published."""


class DeviceError(GRefineError):
    """A device, or the library that drives it, is missing or failed."""


class MemoryLimitError(DeviceError):
    """What was asked for needs more memory than there is; found before anything runs."""


class OptionError(GRefineError, ValueError):
    """An option or argument lies outside what is allowed."""


class OutputError(GRefineError):
    """A result cannot be written."""


class Cancelled(GRefineError):
    """The caller's cancel token was set; the work stopped between two steps."""


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise OptionError unless an option has one of these values, of the same type."""
    if not any(value is item or (type(value) is type(item) and value == item) for item in allowed):
        names = ", ".join(repr(item) for item in allowed if item is not None)
        raise OptionError(f"The option '{name}' must be one of {names}, not {shown(value)}.")


def shown(value: object) -> str:
    """A value as messages show it, on one line and cut; nothing that it could be raises an exception."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
