"""An exported graph in half precision, but for layer norms, softmax and the positions of points, which need single precision.

TensorRT 11 takes a graph's types as they are, and has no flag for half precision any more; TensorRT 10 does the same where it is asked to.
The converters that are at hand (onnxconverter-common, and onnxruntime's copy of it) round to half precision between two neighbours that
are both to stay in single precision: a variance of more than 65504 would be lost in the midst of a layer norm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wesam_ros import install_extra
from wesam_ros.engines.engine import EngineError, as_engine_error
from wesam_ros.engines.export import SINGLE_FILE_BYTES

SINGLE = frozenset({"LayerNormalization", "Softmax", "Sin", "Cos", "Resize", "ReduceMean", "Pow", "Sqrt"})
"""Operators that stay in float32. The last three are SAM's LayerNorm2d, whose other steps read from these; Resize takes its scales so."""
_PARTS = frozenset({"ReduceMean", "Sqrt"})
_POSITIONS = frozenset({"Sin", "Cos"})


def to_half_precision(source: Path, target: Path) -> None:
    """Writes the graph of `source` with float16 weights and steps; inputs and outputs keep their types.

    Args:
        source: an ONNX file that `wesam export` wrote, with the types of all values in it.
        target: the file to write; weights of large models go beside it, into target.name + ".data".

    Raises:
        EngineError: the file cannot be parsed, the graph is not one of ours, or a weight is too large for half precision.
        OSError: a file cannot be read or written.
    """
    try:
        import onnx
    except ImportError as error:
        raise EngineError(f"onnx cannot be imported ({error}); {install_extra('onnx')}") from error

    with as_engine_error(f"{source} cannot be converted to half precision; export the model again with `wesam export --again`"):
        model = onnx.load(source)
        _Conversion(model.graph).run()
        size = sum(len(each.raw_data) for each in model.graph.initializer)
        onnx.save(model, target, save_as_external_data=size > SINGLE_FILE_BYTES, location=f"{target.name}.data")
        onnx.checker.check_model(str(target), full_check=True)


class _Conversion:
    """One walk over the nodes of a graph, which come in the order of their computation."""

    def __init__(self, graph: Any) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self.helper, self.numpy_helper = helper, numpy_helper
        self.float, self.half = TensorProto.FLOAT, TensorProto.FLOAT16
        self.graph = graph
        self.weights = {each.name: each for each in graph.initializer}
        values = (*graph.input, *graph.output, *graph.value_info)
        self.types: dict[str, int] = {each.name: each.type.tensor_type.elem_type for each in values}
        self.types.update((name, each.data_type) for name, each in self.weights.items())
        self.now = dict(self.types)
        """The types of values as they are after conversion, as far as the walk has come."""
        self.made: dict[tuple[str, int], str] = {}
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def run(self) -> None:
        """Converts the graph in place."""
        outputs = {each.name for each in self.graph.output}
        single = self._single()
        for node, keep in zip(list(self.graph.node), single, strict=True):
            wanted = self.float if keep else self.half
            for index, name in enumerate(node.input):
                node.input[index] = self._as(name, wanted) if name else name
            casts = []
            for index, name in enumerate(node.output):
                if name not in self.types:
                    raise EngineError(f"the exported graph has no type for {name}; export the model again with `wesam export --again`")
                if self.types[name] != self.float or keep:
                    continue
                if name in outputs:
                    node.output[index] = f"{name}_half"
                    casts.append(self.helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_cast", to=self.float))
                else:
                    self.now[name] = self.half
            if node.op_type == "Cast" and not keep and self.types[node.output[0].removesuffix("_half")] == self.float:
                node.attribute[0].i = self.half
            self.nodes += [node, *casts]
        for field, items in (("node", self.nodes), ("initializer", self.initializers), ("value_info", [])):
            self.graph.ClearField(field)
            getattr(self.graph, field).extend(items)

    def _single(self) -> list[bool]:
        """For each node, true if it stays in float32: SINGLE, readers of a norm's parts, and everything that leads to a position."""
        parts: set[str] = set()
        positions: set[str] = set()
        nodes = self.graph.node
        keep = [node.op_type in SINGLE for node in nodes]
        for index, node in enumerate(nodes):
            keep[index] |= bool(parts & set(node.input))
            if node.op_type in _PARTS:
                parts |= set(node.output)
        for index in range(len(nodes) - 1, -1, -1):
            if nodes[index].op_type in _POSITIONS or positions & set(nodes[index].output):
                keep[index] = True
                positions |= set(nodes[index].input)
        return keep

    def _as(self, name: str, wanted: int) -> str:
        """The name of a value in the wanted type, where it is of floating point: a copy of a weight, or a cast of what is computed."""
        if name not in self.types:
            raise EngineError(f"the exported graph has no type for {name}; export the model again with `wesam export --again`")
        if name in self.weights:
            return self._weight(name, wanted)
        if self.types[name] != self.float or self.now[name] == wanted:
            return name
        if (name, wanted) not in self.made:
            made = self.made[name, wanted] = f"{name}_{'half' if wanted == self.half else 'single'}"
            self.nodes.append(self.helper.make_node("Cast", [name], [made], f"{made}_cast", to=wanted))
        return self.made[name, wanted]

    def _weight(self, name: str, wanted: int) -> str:
        weight = self.weights[name]
        to_half = self.types[name] == self.float and wanted == self.half
        key = name, self.half if to_half else self.types[name]
        if key in self.made:
            return self.made[key]
        if to_half:
            with np.errstate(over="ignore"):
                values = self.numpy_helper.to_array(weight).astype(np.float16)
            if not np.isfinite(values).all():
                raise EngineError(f"weight {name} has values beyond 65504, which half precision cannot hold; take torch or onnxruntime")
            weight = self.numpy_helper.from_array(values, f"{name}_half")
        self.made[key] = weight.name
        self.initializers.append(weight)
        return str(weight.name)
