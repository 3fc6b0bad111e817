"""A stand-in for the module `tensorrt_rtx` or `tensorrt`: "builds" engines of real ONNX files, and runs them.

An engine holds the ONNX file itself, and runs in ONNX Runtime, from and to the addresses that it was given. It proves
what the code around the library does; the real builder is in test_engine_build.py, a real GPU's runs in tests/gpu.
"""

import ctypes
import enum
import json
import weakref
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime

from tests.support.fake_cuda import Stream

Severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
Flag = enum.Enum("BuilderFlag", ["TF32", "WEIGHT_STREAMING", "REQUIRE_USER_ALLOCATION"])
Preview = enum.Enum("PreviewFeature", ["RUNTIME_ACTIVATION_RESIZE_10_10"])
Specialization = enum.Enum("DynamicShapesKernelSpecializationStrategy", ["LAZY", "EAGER", "NONE"])
Capability = enum.Enum("ComputeCapability", ["NONE", "CURRENT", "SM86", "SM89", "SM120"])


Strategy = enum.Enum("ExecutionContextAllocationStrategy", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"])
Graphs = enum.Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
SCRATCH = 4096
"""Bytes of activations that a context needs for each place of its profile."""


class Dtype(enum.Enum):
    FLOAT = 4
    HALF = 2
    INT64 = 8

    @property
    def itemsize(self):
        return self.value


_KINDS = {onnx.TensorProto.FLOAT: Dtype.FLOAT, onnx.TensorProto.INT64: Dtype.INT64}


class Tensor:
    def __init__(self, name, shape, dtype=Dtype.FLOAT):
        self.name, self._axes, self.dtype = name, shape, dtype
        self.shape = tuple(axis if isinstance(axis, int) else -1 for axis in shape)

    def get_dimension_name(self, axis):
        return self._axes[axis] if isinstance(self._axes[axis], str) else None


class Layer:
    def __init__(self, kind, inputs, output):
        self.type = SimpleNamespace(name=kind)
        self._inputs, self._output = inputs, output

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._output


class Network:
    def __init__(self):
        self.inputs, self.outputs, self.layers = [], [], []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index):
        return self.inputs[index]

    def get_output(self, index):
        return self.outputs[index]

    def get_layer(self, index):
        return self.layers[index]


class Config:
    builder_optimization_level = 3
    num_compute_capabilities = 0
    progress_monitor = None

    def __init__(self):
        self.flags, self.targets, self.profiles, self.timings = set(), {}, [], None
        self.previews = set()

    def set_flag(self, flag):
        self.flags.add(flag.name)

    def set_preview_feature(self, feature, on):
        if on:
            self.previews.add(feature.name)

    def set_compute_capability(self, capability, index):
        self.targets[index] = capability.name

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)

    def create_timing_cache(self, data):
        return data

    def set_timing_cache(self, cache, ignore_mismatch):
        self.timings = cache

    def get_timing_cache(self):
        return SimpleNamespace(serialize=lambda: self.timings + b"measured;")


class Profile(dict):
    def set_shape(self, name, low, best, high):
        self[name] = (tuple(low), tuple(best), tuple(high))


class Callback:
    def __init__(self):
        pass


class RuntimeConfig:
    cuda_graph_strategy = Graphs.DISABLED
    dynamic_shapes_kernel_specialization_strategy = Specialization.LAZY
    strategy = Strategy.STATIC
    cache = None

    def set_execution_context_allocation_strategy(self, strategy):
        self.strategy = strategy

    def create_runtime_cache(self):
        return RuntimeCache()

    def set_runtime_cache(self, cache):
        self.cache = cache
        return True


class RuntimeCache:
    """Holds a kernel for each set of sizes that was run."""

    def __init__(self):
        self.kernels = set()

    def serialize(self):
        return b"cache:" + b";".join(sorted(self.kernels))

    def deserialize(self, data):
        if not data.startswith(b"cache:"):
            return False
        self.kernels = set(data[6:].split(b";")) - {b""}
        return True


class HostMemory(bytearray):
    """As the real object, a buffer without a length."""

    nbytes = property(lambda self: memoryview(self).nbytes)

    def __len__(self):
        raise TypeError("object of type 'IHostMemory' has no len()")


class Engine:
    streamable_weights_size = 1000
    device_memory_size_v2 = SCRATCH
    weight_streaming_budget_v2 = 1000

    def __init__(self, data, cuda, log, context):
        head, model = data.split(b"\n", 1)
        self.profiles, self.cuda, self.log = json.loads(head), cuda, log
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._context, self.contexts = context, weakref.WeakSet()

    def create_runtime_config(self):
        return RuntimeConfig()

    def need(self, profile):
        """Bytes of scratch memory; not TensorRT's, it only tells a context."""
        return SCRATCH * (profile + 1)

    def create_execution_context(self, how):
        assert (how.strategy if isinstance(how, RuntimeConfig) else how) is Strategy.USER_MANAGED
        made = self._context(self, getattr(how, "cache", None))
        self.contexts.add(made)
        return made


class Context:
    engine = property(lambda self: self._engine)

    def __init__(self, engine, cache):
        self._engine, self._cache = engine, cache
        self._profile, self._shapes, self._addresses, self._memory = None, {}, {}, (0, 0)
        self.runs = 0

    def set_optimization_profile_async(self, profile, stream):
        self._profile = profile
        return 0 <= profile < max(len(self._engine.profiles), 1)

    def set_input_shape(self, name, shape):
        self._shapes[name] = tuple(shape)
        ranges = self._engine.profiles[self._profile].get(name) if self._engine.profiles else None
        low, _, high = ranges or (shape, shape, shape)
        return all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))

    def get_tensor_shape(self, name):
        if name in self._shapes:
            return self._shapes[name]
        zeros = {
            given.name: np.zeros(self._shapes[given.name], np.int64 if "int" in given.type else np.float32)
            for given in self._engine.session.get_inputs()
        }
        return self._engine.session.run([name], zeros)[0].shape

    def update_device_memory_size_for_shapes(self):
        assert {given.name for given in self._engine.session.get_inputs()} == self._shapes.keys()
        return self._engine.need(self._profile)

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def set_device_memory(self, address, size):
        self._memory = (address, size)

    def execute_async_v3(self, stream):
        if self._engine.cuda.refuse_runs:
            self._engine.log.log(Severity.ERROR, "the kernel did not like it")
            return False
        Stream.known[stream].submit(partial(self._execute, *self._memory))  # a graph keeps the address
        return True

    def _execute(self, scratch, size):
        memory, session = self._engine.cuda.device_memory, self._engine.session
        assert size >= SCRATCH * (self._profile + 1)
        memory.check(scratch, size)
        given = {}
        for value in session.get_inputs():
            array = np.empty(self._shapes[value.name], np.int64 if "int" in value.type else np.float32)
            memory.check(self._addresses[value.name], array.nbytes)
            ctypes.memmove(array.ctypes.data, self._addresses[value.name], array.nbytes)
            given[value.name] = array
        ctypes.memset(scratch, 0xAB, size)  # what another engine left there is lost
        for value, array in zip(session.get_outputs(), session.run(None, given), strict=True):
            memory.check(self._addresses[value.name], array.nbytes)
            whole = np.ascontiguousarray(array)
            ctypes.memmove(self._addresses[value.name], whole.ctypes.data, whole.nbytes)
        if self._cache is not None:
            self._cache.kernels.add(repr(sorted(self._shapes.items())).encode())
        self.runs += 1


def module(stream=True, on_step=None, refuse=(), cuda=None, context=Context):
    """The module; `configs` lists the configuration of each build, `engines` those that were loaded.

    on_step(step) is called at each of the 4 steps of a build. refuse: names of graphs that cannot be parsed. stream:
    whether it can write engines as a stream. cuda: the stand-in for cuda.core whose memory engines use.
    context: the class of their contexts.
    """
    configs, engines = [], []

    class Parser:
        num_errors = 1

        def __init__(self, network, log):
            self._network = network

        def parse_from_file(self, path):
            return Path(path).stem not in refuse and self.parse(Path(path).read_bytes())

        def parse(self, data):
            self._network.model = onnx.load_from_string(data)
            graph = self._network.model.graph
            for values, tensors in (
                (graph.input, self._network.inputs),
                (graph.output, self._network.outputs),
            ):
                for value in values:
                    kind = value.type.tensor_type
                    axes = [axis.dim_param or axis.dim_value for axis in kind.shape.dim]
                    if tensors is self._network.outputs:
                        axes = [
                            None if isinstance(axis, str) else axis for axis in axes
                        ]  # as the real parser
                    tensors.append(Tensor(value.name, axes, _KINDS[kind.elem_type]))
            for weight in graph.initializer:
                self._network.layers.append(Layer("CONSTANT", [], Tensor(weight.name, list(weight.dims))))
            product = Layer("MATRIX_MULTIPLY", [Tensor("x", [1])], Tensor("y", [1]))
            self._network.layers += [product, Layer("SOFTMAX", [Tensor("y", [1])], Tensor("z", [1]))]
            return True

        def get_error(self, index):
            return SimpleNamespace(desc=lambda: "No importer registered for op: Surprise")

    class Builder:
        def __init__(self, log):
            self._log = log

        def create_network(self, flags):
            return Network()

        def create_builder_config(self):
            configs.append(Config())
            return configs[-1]

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            if {"WEIGHT_STREAMING", "REQUIRE_USER_ALLOCATION"} <= config.flags:  # as the real builder
                self._log.log(Severity.ERROR, "API Usage Error")
                return None
            if config.progress_monitor and not self._watched(config.progress_monitor):
                return None
            for _ in config.profiles or [None]:
                self._log.log(Severity.INFO, "Total Activation Memory: 4096 bytes")
                self._log.log(
                    Severity.VERBOSE, "Engine Layer Information:\nName: _gemm_mha_v2_myl0_7, LayerType: kgen"
                )
            return HostMemory(
                json.dumps(config.profiles).encode() + b"\n" + network.model.SerializeToString()
            )

        def _watched(self, monitor):
            monitor.phase_start("Building engine", None, 4)
            for step in range(4):
                if on_step:
                    on_step(step)
                if not monitor.step_complete("Building engine", step):
                    return False
            monitor.phase_finish("Building engine")
            return True

        def build_serialized_network_to_stream(self, network, config, writer):
            data = self.build_serialized_network(network, config)
            return data is not None and writer.write(data[:5]) + writer.write(data[5:]) == data.nbytes

    class Runtime:
        def __init__(self, log):
            self._log = log

        def deserialize_cuda_engine(self, data):
            if data[:1] != b"[":
                self._log.log(Severity.ERROR, "Magic tag does not match")
                return None
            engines.append(Engine(bytes(data), cuda, self._log, context))
            return engines[-1]

    if not stream:
        del Builder.build_serialized_network_to_stream
    return SimpleNamespace(
        __version__="1.7.1.116" if stream else "10.14.1",
        configs=configs,
        engines=engines,
        Runtime=Runtime,
        ExecutionContextAllocationStrategy=Strategy,
        CudaGraphStrategy=Graphs,
        DynamicShapesKernelSpecializationStrategy=Specialization,
        PreviewFeature=Preview,
        Builder=Builder,
        OnnxParser=Parser,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        ProfilingVerbosity=SimpleNamespace(DETAILED=2),
        BuilderFlag=Flag,
        ComputeCapability=Capability,
        ILogger=type("ILogger", (Callback,), {"Severity": Severity}),
        IProgressMonitor=Callback,
        IStreamWriter=Callback,
    )
