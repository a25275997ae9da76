"""Exported graphs in half precision: what stays in single precision, and what is refused. TensorRT is not needed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wesam_ros.engines.engine import EngineError
from wesam_ros.engines.half_precision import SINGLE, to_half_precision
from wesam_ros.engines.store import DECODER, ENCODER, folder_of


def nodes_of(path: Path) -> list[tuple[Any, set[int], set[int]]]:
    """The nodes of a file, and the types of floating point that each reads and gives."""
    import onnx

    model = onnx.load(path)
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {**{each.name: each.type.tensor_type.elem_type for each in values}, **{each.name: each.data_type for each in graph.initializer}}
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    return [(node, *({types[name] for name in names if name} & floats for names in (node.input, node.output))) for node in graph.node]


@pytest.mark.parametrize("name", [ENCODER, DECODER, "decoder_with_masks.onnx"])
def test_only_what_needs_it_stays_in_single_precision(small_sam: Any, cache: Path, tmp_path: Path, name: str) -> None:
    from onnx import TensorProto

    to_half_precision(folder_of(small_sam) / name, tmp_path / name)
    nodes = nodes_of(tmp_path / name)
    given = {output: node for node, _, _ in nodes for output in node.output}
    for node, reads, gives in nodes:
        if node.op_type in SINGLE:
            assert reads | gives <= {TensorProto.FLOAT}, node.name
        elif node.op_type in ("Conv", "Gemm", "Gelu", "Einsum", "Relu", "Gather"):
            assert reads | gives == {TensorProto.FLOAT16}, node.name
        elif node.op_type == "Cast":  # nothing is rounded to half precision between two steps in single precision
            source = given.get(node.input[0])
            assert source is None or source.op_type != "Cast" or TensorProto.FLOAT not in gives, node.name
    half = [node for node, _, gives in nodes if node.op_type == "MatMul" and gives == {TensorProto.FLOAT16}]
    assert len(half) >= sum(node.op_type == "MatMul" for node, _, _ in nodes) - 1  # the one of the points' positions


def test_what_onnx_raises_is_one_sentence(tmp_path: Path, cache: Path, small_sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exceptions of onnx and protobuf have no base but Exception."""
    from onnx.checker import ValidationError

    (tmp_path / "garbage.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"garbage.onnx cannot be converted .*`wesam export --again`: DecodeError: "):
        to_half_precision(tmp_path / "garbage.onnx", tmp_path / "half.onnx")

    def fail(*_: Any, **__: Any) -> None:
        raise ValidationError("Bad node spec")

    monkeypatch.setattr("onnx.checker.check_model", fail)
    with pytest.raises(EngineError, match="ValidationError: Bad node spec"):
        to_half_precision(folder_of(small_sam) / DECODER, tmp_path / "half.onnx")


def test_weights_that_half_precision_cannot_hold_are_refused(small_sam: Any, cache: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(folder_of(small_sam) / DECODER)
    name = next(node.input[1] for node in model.graph.node if node.op_type == "Gemm")
    weight = next(each for each in model.graph.initializer if each.name == name)
    weight.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(weight.dims), 7e4, np.float32), weight.name))
    onnx.save(model, tmp_path / "large.onnx")
    with pytest.raises(EngineError, match=r"has values beyond 65504"):
        to_half_precision(tmp_path / "large.onnx", tmp_path / "half.onnx")
    assert not (tmp_path / "half.onnx").exists()
