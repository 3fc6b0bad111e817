"""What can go wrong, as a caller sees it.

Every failure that a user can cause or mend is a `GRefineError` whose text is one sentence: what is wrong, and
what to do next. The command line prints that sentence and exits with 1; an application can catch one class.
"""


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
