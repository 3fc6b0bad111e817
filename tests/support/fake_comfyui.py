"""ComfyUI as its custom nodes see it, as far as it is published: the V3 schema (`comfy_api.latest`), how a pack is
loaded from its folder, and how a node is executed. Signatures are those of ComfyUI, so that an argument which it does
not take fails here too."""

import asyncio
import importlib.util
import sys
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, cast

import torch


class Interrupted(BaseException):
    """What ComfyUI raises where the user cancels."""


class Input:
    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None, raw_link=None
    ):
        self.id, self.optional, self.tooltip = id, optional, tooltip
        self.default = None


class Output:
    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.id, self.display_name, self.is_output_list = id, display_name, is_output_list


class WidgetInput(Input):
    def __init__(self, id, display_name, optional, tooltip, default):
        super().__init__(id, display_name, optional, tooltip)
        self.default = default


class StringInput(WidgetInput):
    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        multiline=False,
        placeholder=None,
        default=None,
        dynamic_prompts=None,
    ):
        super().__init__(id, display_name, optional, tooltip, default)


class BooleanInput(WidgetInput):
    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        label_on=None,
        label_off=None,
    ):
        super().__init__(id, display_name, optional, tooltip, default)


class IntInput(WidgetInput):
    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        min=None,
        max=None,
        step=None,
        control_after_generate=None,
    ):
        super().__init__(id, display_name, optional, tooltip, default)
        assert min <= default <= max


class ComboInput(WidgetInput):
    def __init__(
        self, id, options=None, display_name=None, optional=False, tooltip=None, lazy=None, default=None
    ):
        super().__init__(id, display_name, optional, tooltip, default)
        assert default in options


def kind(io_type, check, input_class=Input):
    """A type of sockets. check: whether a value is of it."""
    made = type(io_type, (), {"io_type": io_type, "check": staticmethod(check)})
    for name, base in (("Input", input_class), ("Output", Output)):
        setattr(made, name, type(name, (base,), {"io_type": io_type, "check": staticmethod(check)}))
    return made


def _tensor(dimensions):
    def check(value):
        # Nodes that follow take any float32 tensor of the CPU, with values in [0, 1].
        return (
            isinstance(value, torch.Tensor)
            and value.ndim == dimensions
            and value.dtype == torch.float32
            and 0 <= float(value.min()) <= float(value.max()) <= 1
        )

    return check


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False

    def validate(self):
        for ids in ([each.id for each in self.inputs], [each.id for each in self.outputs]):
            assert len(set(ids)) == len(ids)


class NodeOutput:
    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args = args


class ComfyNode(ABC):
    @classmethod
    @abstractmethod
    def define_schema(cls): ...

    @classmethod
    @abstractmethod
    def execute(cls, **kwargs): ...


class ComfyExtension(ABC):
    async def on_load(self):
        """Nothing, unless a pack says otherwise."""
        return None

    @abstractmethod
    async def get_node_list(self): ...


class Comfy:
    """progress: every (value, max_value) that nodes reported. cancelled: whether the user has cancelled.
    nodes: those of the pack that was loaded, by their id. opened: what tests note of bundles that were opened."""

    def __init__(self, monkeypatch):
        self.progress: list[tuple[float, float]] = []
        self.opened: list[tuple[str, str]] = []
        self.nodes: dict[str, Any] = {}
        self.cancelled = False
        self._monkeypatch = monkeypatch
        io = types.SimpleNamespace(
            Input=Input,
            Schema=Schema,
            NodeOutput=NodeOutput,
            ComfyNode=ComfyNode,
            Image=kind("IMAGE", _tensor(4)),
            Mask=kind("MASK", _tensor(3)),
            String=kind("STRING", lambda value: isinstance(value, str), StringInput),
            Combo=kind("COMBO", lambda value: isinstance(value, str), ComboInput),
            Boolean=kind("BOOLEAN", lambda value: isinstance(value, bool), BooleanInput),
            Int=kind("INT", lambda value: type(value) is int, IntInput),
            Float=kind("FLOAT", lambda value: type(value) is float),
            Custom=lambda name: kind(name, lambda value: value is not None),
        )
        latest = self._module(
            "comfy_api.latest", io=io, ComfyExtension=ComfyExtension, ComfyAPISync=self._api
        )
        self._module("comfy_api", latest=latest)
        management = self._module(
            "comfy.model_management", throw_exception_if_processing_interrupted=self._throw
        )
        self._module("comfy", model_management=management)

    def load(self, folder):
        """Loads a pack as ComfyUI loads a folder of custom_nodes."""
        name = str(folder).replace(".", "_x_")
        found = importlib.util.spec_from_file_location(name, folder / "__init__.py")
        module = importlib.util.module_from_spec(found)
        for known in [each for each in sys.modules if each.startswith(f"{name}.")]:
            self._monkeypatch.delitem(sys.modules, known)  # nothing is kept from an earlier start
        self._monkeypatch.setitem(sys.modules, name, module)
        found.loader.exec_module(module)

        async def nodes():
            extension = await module.comfy_entrypoint()
            await extension.on_load()
            return await extension.get_node_list()

        self.nodes = {node.define_schema().node_id: node for node in asyncio.run(nodes())}

    def run(self, node, **given):
        """The outputs of a node by their ids. Inputs that were not given have their defaults; optional sockets that
        are not connected are not passed at all."""
        schema = node.define_schema()
        schema.validate()
        inputs = {each.id: each for each in schema.inputs}
        assert set(given) <= set(inputs)
        for each in inputs.values():
            if each.id not in given and each.default is not None:
                given[each.id] = each.default
            assert each.optional or each.id in given
        # ComfyUI executes a clone, so nothing can be kept on the class.
        clone = cast(Any, type(node.__name__, (node,), {}))
        values = clone.execute(**given).args
        assert len(values) == len(schema.outputs)
        for output, value in zip(schema.outputs, values, strict=True):
            assert output.check(value), (output.id, value)
        return {output.id: value for output, value in zip(schema.outputs, values, strict=True)}

    def _module(self, name, **members):
        module = types.ModuleType(name)
        vars(module).update(members)
        self._monkeypatch.setitem(sys.modules, name, module)
        return module

    def _api(self):
        def set_progress(value, max_value, node_id=None, preview_image=None, ignore_size_limit=False):
            self.progress.append((value, max_value))

        return types.SimpleNamespace(execution=types.SimpleNamespace(set_progress=set_progress))

    def _throw(self):
        if self.cancelled:
            raise Interrupted
