"""What a file of int16x8 computes of images that its model was shown: sums, and its outputs."""

import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np

from keras_hybrid.export.converter_errors import place_in_model
from keras_hybrid.export.flatbuffer.file import TFLiteFile
from keras_hybrid.export.signature import output_names
from keras_hybrid.export.verify import run_tflite
from keras_hybrid.litert import open_interpreter

IMAGES = 16  # of the representative ones; a sum that clips in none of them seldom does
COMPARED = 4
LEAST_DECIBELS = 15.0  # files of trained networks have 30 to 60
NOTHING = 1e-6  # the greatest value of an output that says nothing


def check_sums(path: str | os.PathLike, samples: Callable[[], Iterable[list]], names: set[str]):
    """Refuses a file one of whose SUM operators gives something else than a sum.

    The converter gives a sum its input's step, says nothing, and the kernel clips it. Sums of which
    all but one number are zero, as in this package's attention, are right so.

    Args:
        path: of a file whose input and output are floats, with short names.
        samples: gives the inputs of its runs, as the converter takes them.
        names: of the model's layers.

    Raises:
        RuntimeError: it names the layers.
    """
    file = TFLiteFile.read(path)
    sums = [x for x in file.model.subgraphs[0].operators if file.operator_name(x) == "SUM"]
    if not sums:
        return
    interpreter = open_interpreter(path, xnnpack=False, keep_tensors=True)
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    clipped: dict[str, None] = {}
    for sample in itertools.islice(samples(), IMAGES):
        interpreter.set_tensor(given["index"], np.asarray(sample[0], "float32"))
        interpreter.invoke()
        for operator in sums:
            added, axes, total = (
                interpreter.get_tensor(x) for x in (*operator.inputs, *operator.outputs)
            )
            step, total_step = (
                details[x]["quantization"][0] for x in (operator.inputs[0], operator.outputs[0])
            )
            exact = step * added.sum(tuple(np.ravel(axes)), dtype="int64").reshape(total.shape)
            least, greatest = (x * total_step for x in (-32768, 32767))
            if np.any((exact < least - total_step) | (exact > greatest + total_step)):
                clipped[_place(details, operator, names)] = None
    if clipped:
        raise RuntimeError(
            "TFLite's int16x8 gives a sum the range of the numbers that it adds up, and clips it. "
            f"It does {', '.join(clipped)}: write the mean times the number of them, "
            "or `keras.ops.sum` between layers, or export with another precision, such as "
            "'float16' or 'int8_cpu'. Received: precision='int16x8'"
        )


def warn_of_differences(
    path: str | os.PathLike,
    samples: Callable[[], Iterable[list]],
    model: keras.Model,
    images: Sequence[np.ndarray],
):
    """Warns of outputs that are far from the model's, for no reason that is known.

    Args:
        path: of a file with the model's outputs, in float.
        samples: gives the inputs of its runs.
        model: of one input, in float.
        images: (1, ...) each, of which these are made.
    """
    batch = np.concatenate(images[:COMPARED])
    inputs = np.concatenate([sample[0] for sample in itertools.islice(samples(), COMPARED)])
    found = run_tflite(path, inputs)
    expected = keras.tree.flatten(model(batch, training=False))
    far = {}
    for name, values in zip(output_names(model), expected, strict=True):
        exact = keras.ops.convert_to_numpy(values).astype("float64")
        noise, signal = np.square(found[name] - exact).mean(), np.square(exact).mean()
        if (
            exact.size
            and np.abs(exact).max() > NOTHING
            and signal < noise * 10 ** (LEAST_DECIBELS / 10)
        ):
            far[name] = 10 * np.log10(signal / noise)
    if far:
        warnings.warn(
            "The file differs from the model by more than rounding should. Signal to noise: "
            + ", ".join(f"{name!r} {value:.1f} dB" for name, value in far.items())
            + f" (under {LEAST_DECIBELS:.0f}), on {len(batch)} of the representative images. Some "
            "layer has numbers of a wider range than integers of 16 bits and weights of 8 can have "
            "at once: use precision='float16'.",
            stacklevel=3,
        )


def _place(details, operator, names):
    """Where an operator of a file of short names is."""
    given, taken = (
        place_in_model(f"model/{details[x]['name']}", names)
        for x in (operator.outputs[0], operator.inputs[0])
    )
    return f"in {given!r}" if given in names else f"after {taken!r}"  # an output is called as such
