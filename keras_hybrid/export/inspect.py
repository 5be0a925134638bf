"""What is in a `.tflite` file: operators, partitions of the XNNPACK delegate, shapes, size."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from keras_hybrid.export.flatbuffer.file import TFLiteFile, enum_name
from keras_hybrid.litert import delegation, open_interpreter

MAXIMUM_GPU_RANK = 4


@dataclass(frozen=True)
class Tensor:
    """An activation: what an operator computes, or an input of the model.

    Attributes:
        name: in the file.
        shape: with the batch dimension.
        dtype: TFLite's name of it, such as "FLOAT32" or "INT8".
        producer: name of the operator that computes it, "INPUT" for an input.
        is_output: whether it is an output of the model.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    producer: str
    is_output: bool = False


@dataclass(frozen=True)
class Inspection:
    """What `inspect_tflite` found.

    Attributes:
        ops: how often each operator occurs, by name; custom ones by their own name.
        partitions: delegate kernels that XNNPACK made of the graph; 1 when it took all of it.
        undelegated: operators that XNNPACK left to LiteRT's own kernels.
        activations: every tensor that is computed, and the inputs, in the graph's order.
        size_bytes: of the file.
    """

    ops: Counter
    partitions: int
    undelegated: Counter
    activations: tuple[Tensor, ...]
    size_bytes: int

    @property
    def num_ops(self) -> int:
        """Number of operators in the file."""
        return sum(self.ops.values())

    @property
    def flex_ops(self) -> tuple[str, ...]:
        """Operators of TensorFlow, which an app would need the Flex delegate for."""
        return tuple(sorted(name for name in self.ops if name.startswith("Flex")))

    @property
    def custom_ops(self) -> tuple[str, ...]:
        """Operators that are no builtin ones of TFLite, Flex apart."""
        return tuple(
            sorted(name for name in self.ops if name != name.upper() and name not in self.flex_ops)
        )

    @property
    def float_tensors(self) -> tuple[Tensor, ...]:
        """Activations in float between input and outputs; none in a file that is int8 throughout.

        The image before the first QUANTIZE and what the last DEQUANTIZE gives do not count.
        """
        return tuple(
            tensor
            for tensor in self.activations
            if tensor.dtype.startswith(("FLOAT", "BFLOAT"))
            and tensor.producer != "INPUT"
            and not (tensor.is_output and tensor.producer == "DEQUANTIZE")
        )

    @property
    def integer_offenders(self) -> tuple[str, ...]:
        """What keeps an accelerator for integers from taking the file, each by its name."""
        return (
            *(f"Flex operator {name}" for name in self.flex_ops),
            *(f"custom operator {name}" for name in self.custom_ops),
            *(
                f"{tensor.dtype} tensor {tensor.name!r} of {tensor.producer}"
                for tensor in self.float_tensors
            ),
        )

    @property
    def ranks(self) -> Counter:
        """How many activations have which rank."""
        return Counter(len(tensor.shape) for tensor in self.activations)

    @property
    def leading_dimensions(self) -> Counter:
        """How many activations have which first dimension."""
        return Counter(tensor.shape[0] for tensor in self.activations if tensor.shape)

    @property
    def gpu_shape_offenders(self) -> tuple[Tensor, ...]:
        """Activations that GPU delegates refuse: rank over 4, or a first dimension over 1."""
        return tuple(
            tensor
            for tensor in self.activations
            if len(tensor.shape) > MAXIMUM_GPU_RANK or (tensor.shape and tensor.shape[0] != 1)
        )


def inspect_tflite(path: str | os.PathLike) -> Inspection:
    """Reads a `.tflite` and has XNNPACK partition it.

    Args:
        path: of the file.

    Returns: an `Inspection`.

    Raises:
        ValueError: for a missing file, one that is no `.tflite`, or one that LiteRT cannot
            prepare.
    """
    path = os.fsdecode(path)
    file = TFLiteFile.read(path)
    graph = file.model.subgraphs[0]
    producers = {int(index): "INPUT" for index in graph.inputs}
    for operator in graph.operators:
        for index in operator.outputs:
            producers[int(index)] = file.operator_name(operator)
    outputs = {int(index) for index in graph.outputs}
    activations = tuple(
        _describe(graph.tensors[index], producer, index in outputs)
        for index, producer in producers.items()
    )
    partitions, undelegated = _delegation(path)
    return Inspection(
        ops=Counter(
            file.operator_name(operator)
            for part in file.model.subgraphs
            for operator in part.operators
        ),
        partitions=partitions,
        undelegated=undelegated,
        activations=activations,
        size_bytes=Path(path).stat().st_size,
    )


def _describe(tensor, producer, is_output):
    from ai_edge_litert.schema_py_generated import TensorType

    shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
    dtype = enum_name(TensorType, tensor.type)
    return Tensor(tensor.name.decode(), shape, dtype, producer, is_output)


def _delegation(path):
    """Number of XNNPACK's kernels, and the operators outside of them."""
    try:
        interpreter = open_interpreter(path)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"LiteRT cannot prepare this file: {error}. Received: path={str(path)!r}"
        ) from error
    found = delegation(interpreter)
    if found is None:
        raise RuntimeError("This LiteRT does not list its operators: install ai-edge-litert 2")
    return found.kernels, Counter(operator.name for operator in found.left)
