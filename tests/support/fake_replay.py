"""A stand-in for ONNX Runtime CUDA with CUDA graphs: it computes on the CPU, from and to addresses of `fake_cuda`.

It is as particular as the real one on stub libraries (tests/stub_cuda): what runs waits in the stream that it was given
until someone waits for that, a graph that was captured reads and writes where its tensors lay then, whatever is bound
now, while one is captured nobody may ask for memory, and a graph with nodes that need a copy to the CPU is refused.
`threads` are those from which a session was called.
"""

import contextlib
import ctypes
import threading
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime

from tests.support.fake_cuda import Stream
from tests.support.fake_onnxruntime import CPU, CUDA, RunOptions, SessionOptions

COPYING = frozenset({"ArgMax", "ReduceProd"})
"""Kinds of nodes, of those that our graphs have had, that the CPU gets with copies there and back."""


class Binding:
    def __init__(self):
        self.inputs, self.outputs = {}, {}

    def bind_input(self, name, device, index, kind, shape, address):
        assert device == "cuda"
        self.inputs[name] = (np.dtype(kind), tuple(shape), address)

    def bind_output(self, name, device, index, kind, shape, address):
        assert device == "cuda"
        self.outputs[name] = (np.dtype(kind), tuple(shape), address)


class Session:
    def __init__(self, path, settings, module):
        kinds = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
        if settings.get("enable_cuda_graph") == "1" and kinds & COPYING:
            raise RuntimeError(
                "This session cannot use the graph capture feature as requested by the user as all compute graph nodes "
                "have not been partitioned to the CUDAExecutionProvider"
            )
        self._session = onnxruntime.InferenceSession(path, providers=[CPU])
        self.settings, self._module = settings, module
        self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs
        self.threads, self.captured, self.plain, self.replays = set(), {}, 0, 0
        self.numbers = []

    def get_providers(self):
        return [CUDA, CPU]

    def io_binding(self):
        return Binding()

    def run(self, names, arrays, options=None):
        self._module.ask_for_memory()
        return self._session.run(names, arrays)

    def run_with_iobinding(self, binding, options):
        self.threads.add(threading.get_ident())
        graph = int(options.entries["gpu_graph_id"])
        if graph in self.captured:
            self.replays += 1
            self._execute(self.captured[graph], options)
            return
        if graph >= 0:
            self.numbers.append(graph)
            with self._module.capturing():
                self.captured[graph] = SimpleNamespace(
                    inputs=dict(binding.inputs), outputs=dict(binding.outputs)
                )
        if self._module.refuses:  # as it is: what was captured of it stays
            raise RuntimeError(self._module.refuses.pop())
        if graph < 0:
            self._module.ask_for_memory()
            self.plain += 1
        self._execute(binding, options)

    def _execute(self, binding, options):
        bound = SimpleNamespace(inputs=dict(binding.inputs), outputs=dict(binding.outputs))
        stream = Stream.known[int(self.settings["user_compute_stream"])]
        stream.submit(lambda: self._compute(bound))
        if options.entries.get("disable_synchronize_execution_providers") != "1":
            stream.sync()

    def _compute(self, bound):
        given = {}
        for name, (kind, shape, address) in bound.inputs.items():
            array = np.empty(shape, kind)
            self._module.memory.check(address, array.nbytes)
            ctypes.memmove(array.ctypes.data, address, array.nbytes)
            given[name] = array
        for (kind, shape, address), made in zip(
            bound.outputs.values(), self._session.run([*bound.outputs], given), strict=True
        ):
            assert (made.dtype, made.shape) == (kind, shape)
            whole = np.ascontiguousarray(made)
            self._module.memory.check(address, whole.nbytes)
            ctypes.memmove(address, whole.ctypes.data, whole.nbytes)


class Onnxruntime:
    """The module. cuda: the stand-in for cuda.core, which gives no memory during a capture either. refuses: what the
    next runs raise. paused: set while a capture waits for `pause`."""

    RunOptions, SessionOptions = RunOptions, SessionOptions

    def __init__(self, cuda):
        self.memory, self.sessions, self.refuses = cuda.device_memory, [], []
        self.pause, self.paused = threading.Event(), threading.Event()
        self.pause.set()
        self._captures = False
        cuda.before_memory = self.ask_for_memory
        self.OrtValue = SimpleNamespace(
            ortvalue_from_numpy=lambda array, kind="cpu", index=0: SimpleNamespace(numpy=lambda: array)
        )

    def get_available_providers(self):
        return [CUDA, CPU]

    def set_default_logger_severity(self, level):
        pass

    def preload_dlls(self):
        pass

    def ask_for_memory(self):
        if self._captures:
            raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")

    @contextlib.contextmanager
    def capturing(self):
        self._captures = True
        self.paused.set()
        try:
            assert self.pause.wait(10)
            yield
        finally:
            self._captures = False

    def InferenceSession(self, path, options, providers=None, enable_fallback=1):
        self.ask_for_memory()
        settings = next((one[1] for one in providers if one[0] == CUDA), {})
        self.sessions.append(Session(path, settings, self))
        return self.sessions[-1]
