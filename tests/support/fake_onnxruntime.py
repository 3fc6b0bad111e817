"""A stand-in for the module `onnxruntime` that was built for CUDA, on a machine that may have GPUs.

It computes nothing: outputs are zeros. It notes how sessions are opened and where tensors are put.
"""

from types import SimpleNamespace

import numpy as np

CUDA, CPU, RTX = "CUDAExecutionProvider", "CPUExecutionProvider", "NvTensorRTRTXExecutionProvider"


class Value:
    def __init__(self, array, place):
        self.array, self.place = array, place

    def numpy(self):
        return self.array


class RunOptions:
    def __init__(self):
        self.entries = {}

    def add_run_config_entry(self, key, value):
        self.entries[key] = value


class SessionOptions:
    def __init__(self):
        self.entries, self.plugged = {}, None

    def add_session_config_entry(self, key, value):
        self.entries[key] = value

    def add_provider_for_devices(self, devices, settings):
        self.plugged = devices, settings


class Binding:
    def __init__(self):
        self.bound = []

    def bind_ortvalue_input(self, name, value):
        self.bound.append((name, value.place))

    bind_ortvalue_output = bind_ortvalue_input


class Onnxruntime:
    """providers: what the package was built for. broken: providers whose libraries are missing. failing: what opening
    a session on a provider raises. rtx: GPUs that the plugin serves."""

    RunOptions, SessionOptions = RunOptions, SessionOptions
    OrtDeviceMemoryType = SimpleNamespace(DEFAULT="default")

    def __init__(self, providers=(CUDA, CPU), broken=(), failing=None, rtx=1):
        self.providers, self.broken, self.failing = list(providers), broken, failing or {}
        self.rtx, self.registered, self.sessions, self.preloads, self.copied = rtx, [], [], 0, 0
        self.OrtValue = SimpleNamespace(
            ortvalue_from_numpy=lambda array, kind="cpu", index=0: Value(array, (kind, index)),
            ortvalue_from_shape_and_type=self._empty,
        )

    def _empty(self, shape, dtype, kind="cpu", index=0, memory_info=None):
        return Value(np.zeros(shape, dtype), memory_info or (kind, index))

    def get_available_providers(self):
        return self.providers

    def set_default_logger_severity(self, level):
        self.level = level

    def preload_dlls(self):
        self.preloads += 1
        if CUDA in self.broken:
            print("Failed to load libcudnn.so.9: cannot open shared object file")

    def register_execution_provider_library(self, name, path):
        self.registered.append((name, path))

    def get_ep_devices(self):
        cpu = SimpleNamespace(ep_name=CPU)
        rtx = [
            SimpleNamespace(ep_name=name, memory_info=lambda kind, index=index: ("rtx", index, kind))
            for name, _ in self.registered
            for index in range(self.rtx)
        ]
        return [cpu, *rtx]

    def copy_tensors(self, sources, targets):
        for source, target in zip(sources, targets, strict=True):
            target.array[...] = source.array
            self.copied += 1

    def InferenceSession(self, path, options, providers=None, enable_fallback=1):
        names = [RTX] if providers is None else [one if isinstance(one, str) else one[0] for one in providers]
        for name in names:
            if name in self.failing:
                raise RuntimeError(self.failing[name])
        session = SimpleNamespace(
            path=path,
            options=options,
            providers=providers,
            enable_fallback=enable_fallback,
            runs=[],
            bindings=[],
            get_providers=lambda: [name for name in names if name not in self.broken],
            get_inputs=lambda: [SimpleNamespace(name="x", type="tensor(float)", shape=["n"])],
            get_outputs=lambda: [SimpleNamespace(name="y", type="tensor(float)", shape=["n"])],
        )

        def run(names, arrays, run_options=None):
            session.runs.append(run_options)
            return [np.zeros_like(arrays["x"]) for _ in names]

        def io_binding():
            session.bindings.append(Binding())
            return session.bindings[-1]

        session.run, session.io_binding = run, io_binding
        session.run_with_iobinding = lambda binding: session.runs.append(None)
        self.sessions.append(session)
        return session
