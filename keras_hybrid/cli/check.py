"""Says what is in a .tflite: input, labels, operators, and which engines take it.

    keras-hybrid check model.tflite

Exit status 1 where it needs operators that are not TFLite's own.
"""

from keras_hybrid.cli.arguments import paths
from keras_hybrid.cli.command import DONE, FAILED, UsageError


def add_arguments(parser):
    parser.add_argument("files", nargs="+", help=".tflite files")


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
    return max(_check(path) for path in found)


def _check(path):
    from keras_hybrid.export.engines import check_gpu_delegate
    from keras_hybrid.export.inspect import inspect_tflite
    from keras_hybrid.export.metadata import read_metadata

    inspection, gpu, metadata = inspect_tflite(path), check_gpu_delegate(path), read_metadata(path)
    images = [tensor for tensor in inspection.activations if tensor.producer == "INPUT"]
    outputs = [tensor for tensor in inspection.activations if tensor.is_output]
    labels = list(metadata.labels)
    shown = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
    operators = ", ".join(f"{count} {name}" for name, count in inspection.ops.most_common(6))
    refused = [f"{count} {name}" for name, count in gpu.unsupported_ops.items()]
    refused += [f"{tensor.name} {tensor.shape}" for tensor in gpu.unsupported_shapes]
    left = ", ".join(f"{count} {name}" for name, count in inspection.undelegated.items())
    foreign = [*inspection.flex_ops, *inspection.custom_ops]
    lines = [
        f"{path}: {inspection.size_bytes / 1e6:.2f} MB",
        f"  made with   {metadata.record or 'unknown'}",
        *(f"  input       {tensor.name} {tensor.shape} {tensor.dtype}" for tensor in images),
        *(f"  output      {tensor.name} {tensor.shape} {tensor.dtype}" for tensor in outputs),
        f"  labels      {shown or 'none'}",
        f"  operators   {inspection.num_ops}: {operators}",
        f"  CPU         XNNPACK takes it in {inspection.partitions} partition"
        + ("s" if inspection.partitions != 1 else "")
        + (f", and leaves {left}" if left else ""),
        "  GPU         takes all" if gpu.ready else f"  GPU         refuses {', '.join(refused)}",
    ]
    if foreign:
        lines.append(f"  needs       {', '.join(foreign)}, which are not TFLite's own")
    print("\n".join(lines))
    return FAILED if foreign else DONE
