"""A manifest like that of an SDXL bundle, and sidecars of engines that fit it."""

import copy
import json

from grefine_rt.bundle.manifest import FileEntry, Manifest
from grefine_rt.engine.tensorrt.profiles import profiles, restricted
from grefine_rt.engine.tensorrt.sidecar import Sidecar, Tensor
from tests.support import tiny

STEP = "components/inpaint_step.onnx"


def manifest(inpaint=None, restore=None, external=(), components=None):
    """SDXL-like: stage 1 at 1024, stage 2 at 768."""
    data = copy.deepcopy(tiny.manifest())
    data["inpaint"] |= {"resolution": 1024, "multiple": 64, **(inpaint or {})}
    data["restore"] |= {"resolution": 768, "multiple": 64, **(restore or {})}
    data["components"] |= components or {}
    paths = [*data["components"].values(), "tokenizers/words.json", *external]
    files = {path: {"size": 10, "sha256": f"{index:064x}"} for index, path in enumerate(dict.fromkeys(paths))}
    return Manifest.from_json(json.dumps({**data, "format": 1, "files": files}))


def sidecar(of, graph=STEP, **changes):
    """A sidecar that is valid for the manifest `of`."""
    component = next(name for name, file in of.components.items() if file == graph)
    known = {
        "format": 2,
        "graph": graph,
        "inputs": (Tensor("sample", "float32", ("1", "4", "h", "w")), Tensor("ids", "int64", ("n", "77"))),
        "outputs": (Tensor("next", "float16", ("1", "4", "?", "?")),),
        "sources": {path: of.files[path].sha256 for path in of.files_of(component)},
        "flavour": "tensorrt-rtx",
        "version": "1.7.1.116",
        "targets": ("sm86", "sm89"),
        "profiles": restricted(profiles(of, graph), {"n", "h", "w"}),
        "precision": "fp16",
        "storage": "fp16",
        "attention": (70, 140),
        "activations": (2**30, 2**31, 2**32),
        "options": {"flags": "TF32", "level": "3"},
        "seconds": 112.5,
        "memory": 2**34,
        "engine": FileEntry(7, "a" * 64),
    }
    return Sidecar(**{**known, **changes})
