"""Kernels rounded to 8 bits together, not weight by weight.

To the nearest, each weight's error is left to chance, while the inputs that weights are multiplied
by are alike: what matters is the error of their sum. Mobile-Former-151M, trained on digits, is at
33.2 dB of float so; with weights to the nearest, but for depthwise kernels whose sums were kept,
the file was at 27.8.
"""

import numpy as np

LARGEST = 127
DAMPING = 0.01  # of the mean square of the inputs, added to each: images are not all there are
BLOCK = 64  # weights whose errors are carried on together


def round_for_inputs(kernel: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Kernels on their grids of 8 bits, with the least error of what they make of their inputs.

    Weight by weight: what one's rounding changes in the outputs, those not yet rounded make good as
    well as they can (GPTQ, Frantar et al. 2023, arXiv 2210.17323, section 3). The greatest weight
    of a kernel keeps its value, so that a converter finds the same step.

    Args:
        kernel: float (groups, inputs, outputs); each output of each group has a step of its own.
        products: (groups, inputs, inputs), of every two inputs of a group the product's sum or mean
            over what the kernels see.

    Returns: float32 of the kernel's shape.
    """
    size = kernel.shape[1]
    squares = np.einsum("gii->gi", products)
    damping = DAMPING * squares.mean(1) + np.finfo("float32").tiny
    # The greatest inputs first, of which the most is to be made good. Of a single output, what
    # keeps its value comes before: last, it could make nothing good.
    priority = squares.astype("float64")
    if kernel.shape[2] == 1:
        np.put_along_axis(priority, np.abs(kernel).argmax(1), np.inf, 1)
    order = np.argsort(-priority, axis=1, kind="stable")
    rows = np.arange(len(order))[:, None]
    products = np.asarray(products, "float64")[rows[..., None], order[..., None], order[:, None]]
    products = products + damping[:, None, None] * np.eye(size)
    carried = np.linalg.cholesky(np.linalg.inv(products)).swapaxes(1, 2)  # upper
    weights = np.asarray(kernel, "float64")[rows, order]

    step = np.abs(weights).max(1) / LARGEST  # (groups, outputs)
    step[step == 0] = 1
    peaks = np.abs(weights).argmax(1)
    at_peak = np.take_along_axis(weights, peaks[:, None], 1)[:, 0]
    rounded = np.empty_like(weights)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.empty_like(weights[:, start:stop])
        for place in range(start, stop):
            now = np.clip(np.rint(weights[:, place] / step), -LARGEST, LARGEST) * step
            now = np.where(peaks == place, at_peak, now)
            error = (weights[:, place] - now) / carried[:, place, place, None]
            later = carried[:, place, place + 1 : stop, None]
            weights[:, place + 1 : stop] -= later * error[:, None]
            rounded[:, place], errors[:, place - start] = now, error
        weights[:, stop:] -= carried[:, start:stop, stop:].swapaxes(1, 2) @ errors
    result = np.empty_like(rounded)
    result[rows, order] = rounded
    return result.astype("float32")
