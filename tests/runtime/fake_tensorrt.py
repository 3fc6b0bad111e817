"""A stand-in for the module `tensorrt_rtx` or `tensorrt`: parses real ONNX files, and "builds" a few bytes from them.

It proves what the code around the builder does; the real builder is in test_engine_build.py.
"""

import enum
import math
from pathlib import Path
from types import SimpleNamespace

import onnx

Severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
Flag = enum.Enum("BuilderFlag", ["TF32", "WEIGHT_STREAMING", "VERSION_COMPATIBLE", "REFIT"])
Capability = enum.Enum("ComputeCapability", ["NONE", "CURRENT", "SM86", "SM89", "SM120"])


class Dtype(enum.Enum):
    FLOAT = 4
    HALF = 2

    @property
    def itemsize(self):
        return self.value


class Tensor:
    def __init__(self, name, shape, dtype=Dtype.FLOAT):
        self.name, self._axes, self.dtype = name, shape, dtype
        self.shape = tuple(-1 if isinstance(axis, str) else axis for axis in shape)

    def get_dimension_name(self, axis):
        return self._axes[axis]


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
        self.inputs, self.layers = [], []

    num_inputs = property(lambda self: len(self.inputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index):
        return self.inputs[index]

    def get_layer(self, index):
        return self.layers[index]


class Config:
    builder_optimization_level = 3
    num_compute_capabilities = 0

    def __init__(self):
        self.flags, self.targets, self.profiles, self.timings = set(), {}, [], None

    def set_flag(self, flag):
        self.flags.add(flag.name)

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


def module(stream=True, on_step=None, refuse=()):
    """The module; `configs` lists the configuration of each build. on_step(step) is called at each of the 4 steps of a
    build. refuse: names of graphs that cannot be parsed. stream: whether it can write engines as a stream."""
    configs = []

    class Parser:
        num_errors = 1

        def __init__(self, network, log):
            self._network = network

        def parse_from_file(self, path):
            if Path(path).stem in refuse:
                return False
            graph = onnx.load(path).graph
            for value in graph.input:
                axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
                self._network.inputs.append(Tensor(value.name, axes))
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
            config.progress_monitor.phase_start("Building engine", None, 4)
            for step in range(4):
                if on_step:
                    on_step(step)
                if not config.progress_monitor.step_complete("Building engine", step):
                    return None
            config.progress_monitor.phase_finish("Building engine")
            self._log.log(Severity.INFO, "Total Activation Memory: 4096 bytes")
            self._log.log(
                Severity.VERBOSE, "Engine Layer Information:\nName: _gemm_mha_v2_myl0_7, LayerType: kgen"
            )
            return f"engine of {sum(math.prod(layer._output.shape) for layer in network.layers)}".encode()

        def build_serialized_network_to_stream(self, network, config, writer):
            data = self.build_serialized_network(network, config)
            return data is not None and writer.write(data[:5]) + writer.write(data[5:]) == len(data)

    if not stream:
        del Builder.build_serialized_network_to_stream
    return SimpleNamespace(
        __version__="1.7.1.116" if stream else "10.14.1",
        configs=configs,
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
