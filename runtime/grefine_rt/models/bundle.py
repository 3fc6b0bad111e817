"""A bundle and its engines: components load on first use, once each."""

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from grefine_rt.bundle.manifest import Manifest
from grefine_rt.bundle.store import (
    check_before_use,
    check_external_data,
    check_size,
    find_bundle,
    mend,
    read_manifest,
)
from grefine_rt.engine.base import Engine
from grefine_rt.engine.devices import Choice
from grefine_rt.errors import BundleError
from grefine_rt.models.selection import Selection
from grefine_rt.text.tokenizer import PromptTokenizer


class Bundle:
    """An opened bundle. Components load on first use, once each; any number of threads may ask at once."""

    def __init__(self, folder: Path, manifest: Manifest, selection: Selection) -> None:
        """selection: what opens its graphs. `open` does all of it."""
        self.folder = folder
        self.manifest = manifest
        self._selection = selection
        self._engines: dict[str, Engine] = {}
        self._choices: dict[str, Choice] = {}
        self._tokenizers: dict[str, list[PromptTokenizer]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    @classmethod
    def open(
        cls,
        name_or_path: str | Path,
        device: str = "auto",
        threads: int | None = None,
        cuda_graphs: bool = False,
    ) -> "Bundle":
        """Open a bundle: find it, read its manifest, and see that every file is there with its size.

        device: "auto", "cpu", "cuda" for ONNX Runtime CUDA, "tensorrt" for built engines alone, or "rtx" for ONNX
        Runtime's TensorRT-RTX plugin, the last three perhaps with ":N". threads: CPU threads of a run; None for
        all cores. cuda_graphs: with "cuda", denoising steps run as CUDA graphs. Contents are checked when a component
        is loaded. Raises BundleError, DeviceError, and OptionError for CUDA graphs with another device.
        """
        folder = find_bundle(name_or_path)
        manifest = read_manifest(folder)
        for path in manifest.files:
            check_size(folder, manifest, path)
        chosen = Selection(folder, manifest, device, threads, str(name_or_path), cuda_graphs)
        return cls(folder, manifest, chosen)

    def has(self, component: str) -> bool:
        """Whether the bundle has this component."""
        return component in self.manifest.components

    def file(self, path: str) -> Path:
        """A file of the bundle that is no graph, proven unchanged. Raises BundleError."""
        check_before_use(self.folder, self.manifest, path)
        return self.folder / path

    def engine(self, component: str) -> Engine:
        """The engine of a component; components that share a file share the engine.

        Raises BundleError when the bundle lacks it or a byte of its files was changed, and DeviceError.
        """
        if not self.has(component):
            raise BundleError(
                f"Bundle '{self.manifest.name}' has no component '{component}': use a bundle that has, "
                f"see 'grefine-rt bundle show'."
            )
        path = self.manifest.components[component]
        with self._lock(path):
            if path not in self._engines:
                for part in self.manifest.files_of(component):
                    check_before_use(self.folder, self.manifest, part)
                check_external_data(self.folder, self.manifest, path)
                self._engines[path], self._choices[path] = self._selection.open(path)
            return self._engines[path]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The backend of each component that was loaded so far, and the reason."""
        chosen = dict(self._choices)
        return tuple(
            dataclasses.replace(chosen[file], component=component)
            for component, file in self.manifest.components.items()
            if file in chosen
        )

    def foresee(self, components: Collection[str] | None = None) -> tuple[Choice, ...]:
        """The backends of these components, or all, if the installed ones work; nothing is loaded. Raises
        DeviceError."""
        return tuple(
            dataclasses.replace(self._selection.foresee(file), component=component)
            for component, file in self.manifest.components.items()
            if components is None or component in components
        )

    def tokenizer(self, component: str) -> list[PromptTokenizer]:
        """The tokenizers of a text component, in the manifest's order. Raises BundleError."""
        specs = self.manifest.tokenizers.get(component, ())
        if not specs:
            raise BundleError(
                f"Bundle '{self.manifest.name}' has no tokenizer for '{component}': {mend(self.folder)}."
            )
        with self._lock(f"tokenizer {component}"):
            if component not in self._tokenizers:
                for spec in specs:
                    check_before_use(self.folder, self.manifest, spec.file)
                self._tokenizers[component] = [
                    PromptTokenizer.from_file(self.folder / spec.file, spec.length, spec.cleaning == "clip")
                    for spec in specs
                ]
            return self._tokenizers[component]

    def _lock(self, key: str) -> threading.Lock:
        # One lock a file: components can load side by side, and none twice.
        with self._guard:
            return self._locks[key]
