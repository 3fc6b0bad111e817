"""Traced graphs, kept by their content: what one test traced, no later test and no other worker traces again.

`torch.onnx.export` takes seconds even for a tiny module, and many tests export the same one. `shared` puts a store in
its place: the call is keyed by all that the result depends on, and the graph is read from the run's own folder when
the key is there. What follows in `grefine_export.onnx.convert` (names, storage, the file) runs every time.
"""

import contextlib
import gc
import hashlib
import io
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import onnx_ir as ir
import torch
from diffusers.configuration_utils import FrozenDict
from filelock import FileLock


@contextlib.contextmanager
def shared(folder: Path):
    """Within it, `torch.onnx.export` asks the store in `folder` first; processes may share the folder."""
    before = torch.onnx.export
    trace = getattr(before, "trace", before)

    def export(module, args, **options):
        key = _key(module, args, options)
        if key is None:
            return _traced(trace, module, args, options)
        file = folder / f"{key}.onnx"
        with FileLock(folder / f"{key}.lock"):  # who comes second waits for the first
            if file.exists():
                return SimpleNamespace(model=_load(file))
            program = _traced(trace, module, args, options)
            half = folder / f"{key}.half"
            ir.save(program.model, half)
            os.replace(half, file)
        return program

    export.trace = trace  # type: ignore[attr-defined]
    torch.onnx.export = export
    try:
        yield
    finally:
        torch.onnx.export = before


def _traced(trace, module, args, options):
    """Objects of a trace live until it ends: to look for garbage among them takes an eighth of its time."""
    gc.disable()
    try:
        return trace(module, args, **options)
    finally:
        gc.enable()


def of_run(factory):
    """The folder that all workers of this run share, from pytest's `tmp_path_factory`."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graph-store"
    folder.mkdir(exist_ok=True)
    return folder


def _load(file):
    """The graph, whose axes can be renamed as those of a traced one."""
    model = ir.load(file)
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = ir.Shape(value.shape.dims)
    return model


@contextlib.contextmanager
def bypassed():
    """Within it, everything is traced although `shared` is in place."""
    export = torch.onnx.export
    torch.onnx.export = export.trace
    try:
        yield
    finally:
        torch.onnx.export = export


def _key(module, args, options):
    """A digest of the module (classes, code of each `forward`, attributes, weights), of its inputs' shapes, which are
    all that tracing looks at, and of the options; None when something cannot be pickled, such as a local class."""
    codes = [_code(type(part)) for part in module.modules()]
    inputs = [(str(tensor.dtype), tuple(tensor.shape), tensor.stride()) for tensor in args]
    written = io.BytesIO()
    try:
        _Content(written).dump((module, inputs, options, codes))
    except (pickle.PicklingError, AttributeError, TypeError, ValueError):
        return None
    return hashlib.sha256(written.getvalue()).hexdigest()


def _code(kind):
    """What tells a `forward` that a test replaced from the class's own."""
    code = getattr(kind.forward, "__code__", None)
    return None if code is None else (code.co_filename, code.co_firstlineno, code.co_code)


class _Content(pickle.Pickler):
    """Pickles tensors as a digest of their values; sets and configurations in an order that any process has."""

    def __init__(self, file):
        super().__init__(file, protocol=5)
        self._storages = {}

    def persistent_id(self, thing):
        if isinstance(thing, torch.Tensor):
            # Tied weights become one initialiser: which tensor shares its memory is content, too.
            place = self._storages.setdefault(thing.untyped_storage().data_ptr(), len(self._storages))
            values = thing.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            digest = hashlib.sha256(values).hexdigest()
            return (type(thing).__name__, str(thing.dtype), tuple(thing.shape), thing.stride(), place, digest)
        if isinstance(thing, (set, frozenset)):
            return ("set", sorted(map(repr, thing)))
        if isinstance(thing, FrozenDict):  # lists its defaults in an order that differs between processes
            return ("config", sorted((name, repr(value)) for name, value in thing.items() if name[0] != "_"))
        return None
