"""The assessor: scores and maps of pictures, without any part that refines them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from grefine_rt.assess.indicator import INDICATORS, Assessment, AssessOptions, Encoders, assess_batch
from grefine_rt.assess.prompt import prompt_phrases
from grefine_rt.assess.scorers.base import Scale, flat
from grefine_rt.bundle.manifest import ASSESS_COMPONENTS, SECTION_COMPONENTS
from grefine_rt.errors import BundleError, OptionError
from grefine_rt.imaging.image import Source, load
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.warm_up import PROMPT, warm_up

__all__ = ["Assessor"]

_ASSESS = AssessOptions()


class Assessor:
    """A loaded bundle, ready to assess pictures; of its parts only those that assess are ever loaded.

        with Assessor.load("mini") as assessor:
            found = assessor.assess("picture.png", "a red house under a yellow sun")
            print(*(f"{name}: {score}" for name, score in found.scores.items()))
            found.heat_map("perceptual", "picture.png").save("heat.png")

    Pictures are given as a PIL image, an array, a path or the bytes of a file (see `imaging.image.load`). Any
    number of threads may use one Assessor. Scores depend on the company in a batch, and on texts seen before,
    by no more than rounding in float32 does, about 1e-5.
    """

    remembered = 4096
    """Features of texts that are kept, 2 KB each: prompts and nouns come back, above all in databases."""

    sections: tuple[str, ...] = ()
    """Stages whose components are used beside those of the two indicators and of the metrics."""

    def __init__(self, bundle: Bundle) -> None:
        self._opened: tuple[Bundle, Encoders] | None = bundle, Encoders(bundle, self.remembered)

    @classmethod
    def load(
        cls,
        bundle: str | Path = "mini",
        device: str = "auto",
        threads: int | None = None,
        cuda_graphs: bool = False,
    ) -> Self:
        """Opens a bundle: an embedded name, or a folder; for an `Assessor` one that only assesses will do.

        `device` is "auto", "cpu", "cuda", "tensorrt" or "rtx" (see `Bundle.open`); `threads` the CPU threads of a run,
        None leaves it to the engine; `cuda_graphs` is for a `Refiner` on "cuda", whose denoising steps then run as CUDA
        graphs. Components load on first use. Raises BundleError, DeviceError and OptionError.
        """
        return cls(Bundle.open(bundle, device, threads, cuda_graphs))

    @property
    def bundle(self) -> Bundle:
        """The bundle in use. Raises BundleError after `close`."""
        return self._parts()[0]

    @property
    def scales(self) -> dict[str, Scale]:
        """The scale of every score that this bundle gives, by the names in `Assessment.scores`; nothing is loaded."""
        return {
            **INDICATORS,
            **{name: scale for name, (_, _, scale) in flat(self._parts()[1].scorers).items()},
        }

    def warm_up(self, *pictures: tuple[int, int]) -> Self:
        """Loads every component that this object may use and runs it once, so that the first picture takes no longer
        than others. Returns the object itself.

        pictures: (width, height) of those to come. On a GPU the first run of a size takes longer than others, and the
        stages of a refiner work on pictures of other shapes at other sizes; the square one is always run. Crops, which
        the plan chooses, have sizes that nobody knows before. Raises OptionError for what is no such pair, BundleError
        and DeviceError.
        """
        for picture in pictures:
            if not (isinstance(picture, tuple) and len(picture) == 2 and min(picture) > 0):
                raise OptionError(f"A picture to warm up for is (width, height) in pixels, not {picture!r}.")
        bundle = self.bundle
        parts = [name for section in self.sections for name in SECTION_COMPONENTS[section]]
        parts += [name for metric in bundle.manifest.scorers.values() for name in metric.components]
        warm_up(bundle, (*ASSESS_COMPONENTS, *parts), pictures)
        prompt_phrases(PROMPT)
        return self

    def assess(self, image: Source, prompt: str, options: AssessOptions = _ASSESS) -> Assessment:
        """How good the picture is and how well it shows the prompt. Raises ImageError and PromptError."""
        return next(self.assess_batch([image], [prompt], options))

    def assess_batch(
        self,
        images: Iterable[Source],
        prompts: str | Iterable[str],
        options: AssessOptions = _ASSESS,
        batch: int = 8,
    ) -> Iterator[Assessment]:
        """The assessments of pictures of any sizes, one by one and in order, made `batch` at a time.

        `prompts`: one for each picture, or a single text for all.
        A picture is read when its batch is due and forgotten after it, so memory does not grow with their
        number; keep of an assessment what you need, for its maps are as large as the picture. Raises
        OptionError for a `batch` below 1 and BundleError after `close` at once; while iterating, ImageError
        and PromptError for what cannot be used, and OptionError where pictures and prompts differ in number.
        """
        if batch < 1:
            raise OptionError(f"The option 'batch' must be 1 or more, not {batch}.")
        bundle, encoders = self._parts()

        def run() -> Iterator[Assessment]:
            sources, texts = iter(images), None if isinstance(prompts, str) else iter(prompts)
            while True:
                pictures = [load(image).rgb for image in islice(sources, batch)]
                wanted = [str(prompts)] * len(pictures) if texts is None else list(islice(texts, batch))
                if len(wanted) != len(pictures):
                    raise OptionError("There must be one prompt for each picture, but their numbers differ.")
                if not pictures:
                    return
                yield from assess_batch(bundle, pictures, wanted, options, encoders)

        return run()

    def _parts(self) -> tuple[Bundle, Encoders]:
        if self._opened is None:
            name = type(self).__name__
            raise BundleError(f"This {name.lower()} is closed: load another one with {name}.load.")
        return self._opened

    def close(self) -> None:
        """Gives the engines and their memory back; nothing can be assessed or refined after it."""
        self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
