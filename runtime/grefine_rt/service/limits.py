"""The limits of a request, decided before anything is decoded; and the form of a refusal."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from grefine_rt.errors import (
    BundleError,
    Cancelled,
    DeviceError,
    GRefineError,
    ImageError,
    MemoryLimitError,
    OptionError,
)
from grefine_rt.imaging.files_in import opened, too_large


@dataclass(frozen=True)
class ServiceLimits:
    """Bounds of one service. All are checked before a picture is decoded.

    body_bytes: of a request's body. pixels: of a picture, width times height. prompt: characters of the prompt and of
    the negative prompt, each. seconds: from a request's acceptance to its answer, waiting included. body_seconds: in
    which a request's head, and then its body, must have arrived. waiting: accepted requests that wait for a worker.
    workers: requests that run at the same time. together: waiting assessments that a worker makes at once; None for 8
    where the bundle gives the same bits then, tried at the start, and else 1. Raises OptionError for a value below 1,
    `waiting` below 0.
    """

    body_bytes: int = 32 * 2**20
    pixels: int = 16_000_000
    prompt: int = 4000
    seconds: float = 300.0
    body_seconds: float = 30.0
    waiting: int = 16
    workers: int = 1
    together: int | None = None

    def __post_init__(self) -> None:
        for name in ("body_bytes", "pixels", "prompt", "seconds", "body_seconds", "workers"):
            if getattr(self, name) < 1:
                raise OptionError(f"The limit '{name}' must be 1 or more, not {getattr(self, name):g}.")
        if self.together is not None and self.together < 1:
            raise OptionError(f"The limit 'together' must be 1 or more, not {self.together}.")
        if self.waiting < 0:
            raise OptionError(f"The limit 'waiting' must be 0 or more, not {self.waiting}.")

    @property
    def uploads(self) -> int:
        """Bodies that may be on their way at the same time, so that slow clients hold a bounded memory."""
        return 4 * (self.waiting + self.workers)

    @property
    def connections(self) -> int:
        """Requests of every kind at the same time."""
        return 8 * self.uploads


class Refused(Exception):
    """A request that gets no result. status: of HTTP. reason: one word, by which refusals are counted."""

    def __init__(self, status: int, reason: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.retry_after = status, reason, message, retry_after


def check_pixels(data: bytes, limit: int, name: str) -> int:
    """The pixels of a picture, from the header of its file; more than `limit` are refused and nothing is decoded.

    Raises Refused 413, and 422 for bytes that are no picture."""
    try:
        with opened(data, limit) as (_, image, called):
            pixels = int(image.width * image.height)
            if pixels > limit:
                raise ImageError(too_large(called, limit))
            return pixels
    except ImageError as error:
        large = str(error) == too_large("The image data", limit)
        status, reason = (413, "pixels") if large else (422, "image")
        raise Refused(status, reason, f"{name}: {error}") from None


def check_text(text: str | None, limit: int, name: str) -> None:
    """Raises Refused 413 for a text longer than `limit` characters."""
    if text is not None and len(text) > limit:
        raise Refused(413, "prompt_length", f"The {name} has {len(text)} characters; the limit is {limit}.")


def refusal(error: GRefineError) -> Refused:
    """The answer to an error of the package: 422 for one that the client can mend, 413 for a lack of memory, 503 for
    a device that failed, 500 for a bundle that did."""
    if isinstance(error, MemoryLimitError):
        return Refused(413, "memory", str(error))
    if isinstance(error, Cancelled):
        return Refused(499, "cancelled", str(error))
    if isinstance(error, DeviceError):
        return Refused(503, "device", str(error))
    if isinstance(error, BundleError):
        return Refused(500, "bundle", str(error))
    return Refused(422, type(error).__name__.removesuffix("Error").lower(), str(error))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address: localhost, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, token: str | None) -> None:
    """Raises OptionError for a service that other machines reach without a token, and for a token that is too short
    to keep anyone out."""
    if token is not None and len(token) < 16:
        raise OptionError("The token must have 16 characters or more.")
    if token is None and not is_loopback(host):
        raise OptionError(
            f"Without a token the service listens on this machine alone, not on '{host}': give --token-file FILE, or "
            f"set GREFINE_TOKEN."
        )
