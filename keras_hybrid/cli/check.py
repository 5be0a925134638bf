"""Says what is in a .tflite: input, labels, operators, and which engines take it.

    keras-hybrid check model.tflite
    keras-hybrid check model.tflite --engines    asks the engines themselves, where they are there

Exit status 1 where it needs operators that are not TFLite's own.
"""

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.command import DONE, FAILED, UsageError


def add_arguments(parser):
    parser.add_argument("files", nargs="+", help=".tflite files")
    parser.add_argument(
        "--engines",
        action="store_true",
        help="ask LiteRT.js' GPU engine, an NPU's compiler and MediaPipe as well",
    )


def run(options) -> int:
    """Prints one paragraph a file."""
    found = []
    for text in options.files:
        path = paths.existing(text, "a .tflite file")
        if path.suffix != ".tflite":
            raise UsageError(f"a .tflite file is expected. Received: {text}")
        found.append(path)
    from keras_hybrid.cli.quiet import load_tensorflow

    load_tensorflow()
    return max(_check(path, options.engines) for path in found)


def _check(path, ask_all):
    from keras_hybrid.engines.check import ENGINES, check_engines
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.metadata import read_metadata

    inspection, metadata = inspect_tflite(path), read_metadata(path)
    engines = check_engines(path, ENGINES if ask_all else (), by_list=True)
    images = [tensor for tensor in inspection.activations if tensor.producer == "INPUT"]
    outputs = [tensor for tensor in inspection.activations if tensor.is_output]
    labels = list(metadata.labels)
    shown = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
    operators = ", ".join(f"{count} {name}" for name, count in inspection.ops.most_common(6))
    foreign = [*inspection.flex_ops, *inspection.custom_ops]
    lines = [
        f"{path}: {inspection.size_bytes / 1e6:.2f} MB",
        f"  made with   {metadata.record or 'unknown'}",
        *(f"  input       {tensor.name} {tensor.shape} {tensor.dtype}" for tensor in images),
        *(f"  output      {tensor.name} {tensor.shape} {tensor.dtype}" for tensor in outputs),
        f"  labels      {shown or 'none'}",
        f"  operators   {inspection.num_ops}: {operators}",
        *(answer.text() for answer in engines.answers.values()),
    ]
    if foreign:
        lines.append(f"  needs       {', '.join(foreign)}, which are not TFLite's own")
    print("\n".join(lines))
    return FAILED if foreign else DONE
