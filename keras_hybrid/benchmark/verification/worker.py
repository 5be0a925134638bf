"""The process that makes a file's inputs from images and computes outputs on this machine.

A process of its own, so that the harness needs neither NumPy nor LiteRT. Run by
`keras_hybrid.benchmark.verification.cases`.
"""

import json
import sys
from pathlib import Path

import numpy as np

from keras_hybrid.benchmark.workers import ANSWER
from keras_hybrid.litert import open_interpreter


def describe(details, names):
    """A tensor as plain JSON types."""
    scale, zero_point = details["quantization"]
    return {
        "name": names.get(details["index"], details["name"]),
        "shape": [int(size) for size in details["shape"]],
        "dtype": np.dtype(details["dtype"]).name,
        "scale": float(scale),
        "zero_point": int(zero_point),
    }


def signature_names(interpreter, side):
    """Index of a tensor -> its name in the file's first signature."""
    signature = next(iter(interpreter.get_signature_list()), None)
    if signature is None:
        return {}
    runner = interpreter.get_signature_runner(signature)
    details = runner.get_input_details() if side == "inputs" else runner.get_output_details()
    return {values["index"]: name for name, values in details.items()}


def normalization_of(path):
    """(mean, std) that the file's metadata state for pixels of 0 to 255, or None."""
    try:
        from keras_hybrid.export.metadata import read_metadata

        found = read_metadata(path)
    except (ImportError, ValueError):
        return None
    stated = found.record.get("normalization") or (
        {"mean": found.normalization.mean, "std": found.normalization.std}
        if found.normalization
        else None
    )
    return stated and (np.asarray(stated["mean"]), np.asarray(stated["std"]))


def read_inputs(source, tensor, model, limit):
    """Arrays of the shape and type that the input takes, one an image."""
    shape, source = tuple(tensor["shape"]), Path(source)
    if source.suffix == ".npy":
        values = np.load(source)[:limit]
        if values.shape[1:] != shape[1:] or len(values) == 0:
            raise ValueError(
                f"Inputs of shape (n, {', '.join(map(str, shape[1:]))}) are expected. "
                f"Received: shape {values.shape}"
            )
        return [as_input(value[None], tensor) for value in values]
    if len(shape) != 4 or shape[-1] not in (1, 3) or shape[0] != 1:
        raise ValueError(
            "Images verify a file whose input is one image (1, H, W, 3); give a .npy of inputs "
            f"for others. Received: an input of shape {shape}"
        )
    from PIL import Image

    from keras_hybrid.image_files import readable_images, sample_image_files

    files = sample_image_files(source, None if source.is_file() else 4 * limit)
    normalization = normalization_of(model)
    inputs = []
    for _, pixels in readable_images(files, limit):
        image = Image.fromarray(pixels).resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
        values = np.asarray(image.convert("L" if shape[-1] == 1 else "RGB"), "float32")
        values = values.reshape(shape)
        if normalization:
            values = (values - normalization[0]) / normalization[1]
        inputs.append(as_input(values, tensor))
    if not inputs:
        raise ValueError(f"No image can be read in {str(source)!r}")
    return inputs


def as_input(values, tensor):
    """Real values in the input's type, quantized where that is."""
    dtype = np.dtype(tensor["dtype"])
    if np.issubdtype(dtype, np.floating) or values.dtype == dtype:
        return np.ascontiguousarray(values, dtype)
    limits = np.iinfo(dtype)
    if tensor["scale"]:
        values = values / tensor["scale"] + tensor["zero_point"]
    return np.clip(np.round(values), limits.min, limits.max).astype(dtype)


def compute(interpreter, value):
    """All outputs' bytes, one after the other's, as `benchmark_model` writes them."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    interpreter.invoke()
    return b"".join(
        np.ascontiguousarray(interpreter.get_tensor(details["index"])).tobytes()
        for details in interpreter.get_output_details()
    )


def prepare(request):
    interpreter = open_interpreter(request["model"], xnnpack=False)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    if len(details) != 1:
        raise ValueError(f"A file of one input is expected. Received: {len(details)} inputs")
    tensor = describe(details[0], signature_names(interpreter, "inputs"))
    names = signature_names(interpreter, "outputs")
    folder, inputs, expected = Path(request["folder"]), [], []
    values = read_inputs(request["images"], tensor, request["model"], request["limit"])
    for number, value in enumerate(values):
        for paths, kind, content in (
            (inputs, "input", value.tobytes()),
            (expected, "expected", compute(interpreter, value)),
        ):
            path = folder / f"{kind}_{number:03}.bin"
            path.write_bytes(content)
            paths.append(str(path))
    outputs = [describe(output, names) for output in interpreter.get_output_details()]
    return {"input": tensor, "outputs": outputs, "inputs": inputs, "expected": expected}


def run(request):
    """Outputs of this machine's kernels, written beside the inputs."""
    interpreter = open_interpreter(request["model"], request["num_threads"], request["xnnpack"])
    interpreter.allocate_tensors()
    (details,) = interpreter.get_input_details()
    for source, target in zip(request["inputs"], request["outputs"], strict=True):
        value = np.frombuffer(Path(source).read_bytes(), details["dtype"])
        Path(target).write_bytes(compute(interpreter, value.reshape(details["shape"])))
    return {}


def main():
    task = {"prepare": prepare, "run": run}[sys.argv[1]]
    print(ANSWER + json.dumps(task(json.loads(sys.argv[2]))), flush=True)


if __name__ == "__main__":
    main()
