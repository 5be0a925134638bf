"""LiteRT's interpreter: opening a file, its operators, and what a delegate took of them.

Needs no TensorFlow. The list of operators is LiteRT's private API, read here alone;
`tests/export/test_inspect_and_verify.py` fails where a LiteRT names it otherwise.
"""

import functools
import os
from dataclasses import dataclass

from keras_hybrid.commentary import without_commentary

_DELEGATE_KERNEL = "DELEGATE"  # LiteRT's name of an operator that stands for those a delegate took


@dataclass(frozen=True)
class Operator:
    """One operator of an interpreter.

    Attributes:
        name: of its kind, such as "CONV_2D".
        inputs: numbers of the tensors it reads; -1 for one that is left out.
        outputs: numbers of the tensors it computes.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Delegation:
    """What delegates took of a file's operators.

    Attributes:
        kernels: number of the delegates' own operators, each for one partition of the graph.
        total: number of the file's operators.
        left: the file's operators that LiteRT's own kernels run.
    """

    kernels: int
    total: int
    left: tuple[Operator, ...]

    @property
    def taken(self) -> int:
        """Number of the file's operators that delegates run."""
        return self.total - len(self.left)


def open_interpreter(
    path: str | os.PathLike,
    num_threads: int = 1,
    xnnpack: bool = True,
    keep_tensors: bool = False,
):
    """LiteRT's interpreter of a file, not yet allocated.

    Args:
        path: of the `.tflite`.
        num_threads: at most.
        xnnpack: whether the XNNPACK delegate takes what it can, as is LiteRT's default; LiteRT's
            own kernels do the rest, or all.
        keep_tensors: whether all tensors can be read after a run; a delegate's are never there.

    Raises:
        ValueError: for a file that LiteRT cannot open.
    """
    from ai_edge_litert.interpreter import OpResolverType

    kernels = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        return _quiet_interpreter()(
            model_path=os.fsdecode(path),
            num_threads=num_threads,
            experimental_op_resolver_type=kernels,
            experimental_preserve_all_tensors=keep_tensors,
        )
    except ValueError as error:
        raise ValueError(
            "LiteRT cannot open the file: it is no .tflite, damaged, or was not copied whole "
            f"({error}). Received: path={os.fsdecode(path)!r}"
        ) from error


@functools.cache
def _quiet_interpreter():
    """LiteRT's class, which is imported late, without its word on the delegate it has made."""
    from ai_edge_litert.interpreter import Interpreter

    class QuietInterpreter(Interpreter):
        def allocate_tensors(self):
            with without_commentary():
                super().allocate_tensors()

    return QuietInterpreter


def list_operators(interpreter) -> list[Operator] | None:
    """The operators of an interpreter: the file's in run order, then the delegates' kernels.

    Returns: None with a LiteRT that does not list them.
    """
    if not hasattr(interpreter, "_get_ops_details"):
        return None
    return [
        Operator(
            details["op_name"],
            tuple(int(tensor) for tensor in details["inputs"]),
            tuple(int(tensor) for tensor in details["outputs"]),
        )
        for details in interpreter._get_ops_details()
    ]


def delegation(interpreter) -> Delegation | None:
    """What delegates took of an allocated interpreter's operators.

    An operator is taken if a delegate's kernel depends on it without reading its outputs.

    Returns: None with a LiteRT that does not list its operators.
    """
    operators = list_operators(interpreter)
    if operators is None:
        return None
    own = [operator for operator in operators if operator.name != _DELEGATE_KERNEL]
    kernels = [operator for operator in operators if operator.name == _DELEGATE_KERNEL]
    producers = {tensor: number for number, x in enumerate(own) for tensor in x.outputs}
    taken = set()
    for kernel in kernels:
        pending = list(kernel.outputs)
        while pending:
            number = producers.get(pending.pop())
            if number is not None and number not in taken:
                taken.add(number)
                pending += [x for x in own[number].inputs if x not in kernel.inputs]
    left = tuple(operator for number, operator in enumerate(own) if number not in taken)
    return Delegation(len(kernels), len(own), left)
