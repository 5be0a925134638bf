"""LiteRT's interpreter of a file."""

import os


def open_interpreter(path: str | os.PathLike, num_threads: int = 1, xnnpack: bool = True):
    """LiteRT's interpreter of a file, not yet allocated.

    Args:
        path: of the `.tflite`.
        num_threads: at most.
        xnnpack: whether the XNNPACK delegate takes what it can, as is LiteRT's default; LiteRT's
            own kernels do the rest, or all.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(
        model_path=os.fspath(path),
        num_threads=num_threads,
        experimental_op_resolver_type=kernels,
    )
