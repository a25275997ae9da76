"""A double of the module tensorrt: its plans hold the graph that they were built from, and ONNX Runtime computes them."""

from __future__ import annotations

import ctypes
from enum import Enum, IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from wesam_ros.engines.tensorrt_plans import PROFILE


class Buffer(bytes):
    """An IHostMemory, or a timing cache, which gives one."""

    def serialize(self) -> Buffer:
        return self


class Double:
    """See the module."""

    __version__ = "11.0.double"
    float32, int64 = "float32", "int64"
    BuilderFlag = SimpleNamespace(TF32="tf32")
    NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 0})

    class ILogger:
        Severity = Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    def __init__(self) -> None:
        self.built: list[str] = []
        self.profiles: list[dict[str, Any]] = []
        self.addresses: list[dict[str, int]] = []
        self.reads = self.builds = self.loads = True

    def fail(self, logger: Any, reason: str) -> Any:
        logger.log(self.ILogger.Severity.ERROR, reason)

    def Builder(self, logger: Any) -> Any:  # noqa: N802 - TensorRT's name
        def build(network: Any, config: Any) -> Buffer | None:
            assert config.flags == ["tf32"]
            self.built.append(Path(network.path).name)
            return Buffer(b"plan" + Path(network.path).read_bytes()) if self.builds else self.fail(logger, "no kernel found")

        def create_network(flags: int) -> Any:
            assert flags == 1
            return SimpleNamespace()

        return SimpleNamespace(
            create_network=create_network,
            create_builder_config=lambda: Config(self),
            create_optimization_profile=lambda: Profile(),
            build_serialized_network=build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        def parse_from_file(path: str) -> bool:
            import onnx

            shapes = {
                each.name: tuple(axis.dim_value or -1 for axis in each.type.tensor_type.shape.dim) for each in onnx.load(path).graph.input
            }
            network.path, network.num_inputs = path, len(shapes)
            network.get_input = lambda index: SimpleNamespace(name=list(shapes)[index], shape=list(shapes.values())[index])
            return self.reads

        error = SimpleNamespace(desc=lambda: "no importer for Gelu")
        return SimpleNamespace(parse_from_file=parse_from_file, num_errors=1, get_error=lambda index: error)

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        def deserialize_cuda_engine(plan: bytes) -> Any:
            if not self.loads or not plan.startswith(b"plan"):
                return self.fail(logger, "the plan is of another version")
            return Engine(self, plan[4:])

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)


class Profile(dict):  # type: ignore[type-arg]
    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self[name] = least, best, most


class Config:
    def __init__(self, trt: Double) -> None:
        self.trt, self.cache = trt, Buffer()
        self.flags: list[str] = []

    def clear_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        self.trt.profiles.append(profile)
        return 0

    def create_timing_cache(self, data: bytes) -> Buffer:
        return Buffer(data)

    def set_timing_cache(self, cache: Buffer, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return cache in (b"", b"timings")

    def get_timing_cache(self) -> Buffer:
        return Buffer(b"timings")


class Engine:
    def __init__(self, trt: Double, graph: bytes) -> None:
        import onnxruntime

        self.trt = trt
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = self.session.get_inputs(), self.session.get_outputs()
        self.types: dict[str, str] = {each.name: each.type for each in (*self.inputs, *self.outputs)}
        self.num_io_tensors = len(self.types)

    def get_tensor_name(self, index: int) -> str:
        return list(self.types)[index]

    def get_tensor_dtype(self, name: str) -> str:
        return {"tensor(float)": "float32", "tensor(int64)": "int64"}[self.types[name]]

    def create_execution_context(self) -> Any:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return all(PROFILE[name][axis][0] <= shape[axis] <= PROFILE[name][axis][2] for axis in PROFILE.get(name, {}))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return memory > 0

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        free = {axis: size for each in self.engine.inputs for axis, size in zip(each.shape, self.shapes[each.name], strict=True)}
        return tuple(free.get(axis, axis) for axis in next(each.shape for each in self.engine.outputs if each.name == name))

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == 7
        self.engine.trt.addresses.append(dict(self.addresses))
        feed = {each.name: self._at(each.name, self.shapes[each.name]).copy() for each in self.engine.inputs}
        for each, value in zip(self.engine.outputs, self.engine.session.run(None, feed), strict=True):
            self._at(each.name, value.shape)[...] = value
        return True

    def _at(self, name: str, shape: tuple[int, ...]) -> Any:
        kind = ctypes.c_int64 if self.engine.get_tensor_dtype(name) == "int64" else ctypes.c_float
        return np.ctypeslib.as_array((kind * int(np.prod(shape))).from_address(self.addresses[name])).reshape(shape)
