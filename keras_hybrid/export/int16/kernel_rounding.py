"""Kernels rounded to 8 bits together, not weight by weight.

To the nearest, each weight's error is left to chance, while the inputs that weights are multiplied
by are alike: what matters is the error of their sum.
"""

import numpy as np

LARGEST = 127
DAMPING = 0.001  # of the mean square of the inputs, added to each: images are not all there are
BLOCK = 64  # weights whose errors are carried on together
MOST_STEPS = 33  # tried for a kernel of up to 64 inputs; of more inputs in proportion fewer
SPAN = 1.0  # by how many steps those tried move a kernel's greatest weight, up and down


def round_for_inputs(kernel: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Kernels on grids of 8 bits, with the least error of what they make of their inputs.

    Weight by weight: what one's rounding changes in the outputs, those not yet rounded make good as
    well as they can (GPTQ, Frantar et al. 2023, arXiv 2210.17323, section 3). So with several steps
    a little apart, of which each output takes the best. The greatest weight of a kernel is 127 of
    its steps always, by which a converter finds the step.

    Args:
        kernel: float (groups, inputs, outputs); each output of each group has a step of its own.
        products: (groups, inputs, inputs), of every two inputs of a group the product's sum or mean
            over what the kernels see.

    Returns: float32 of the kernel's shape.
    """
    squares = np.einsum("gii->gi", products)
    damping = DAMPING * squares.mean(1) + np.finfo("float32").tiny
    # The greatest inputs first, of which the most is to be made good. Of a single output, what
    # gives the step comes before: last, it could make nothing good.
    priority = squares.astype("float64")
    if kernel.shape[2] == 1:
        np.put_along_axis(priority, np.abs(kernel).argmax(1), np.inf, 1)
    order = np.argsort(-priority, axis=1, kind="stable")
    rows = np.arange(len(order))[:, None]
    products = np.asarray(products, "float64")[rows[..., None], order[..., None], order[:, None]]
    products = products + damping[:, None, None] * np.eye(kernel.shape[1])
    carried = np.linalg.cholesky(np.linalg.inv(products)).swapaxes(1, 2)  # upper
    weights = np.asarray(kernel, "float64")[rows, order]

    step = np.abs(weights).max(1) / LARGEST  # (groups, outputs)
    step[step == 0] = 1
    best, least = weights, np.full(step.shape, np.inf)
    for moved in _moves(kernel.shape[1]):
        rounded = _rounded(weights, step * (1 + moved / LARGEST), carried)
        change = rounded - weights
        error = np.einsum("gio,gio->go", change, products @ change)
        better = error < least
        best = np.where(better[:, None], rounded, best)
        least = np.where(better, error, least)
    result = np.empty_like(best)
    result[rows, order] = best
    return result.astype("float32")


def _moves(inputs):
    """By how many of its steps a kernel's greatest weight is moved, one after the other."""
    count = int(MOST_STEPS * min(1, 64 / inputs))
    return (0.0, *np.linspace(-SPAN, SPAN, count - 1)) if count > 2 else (0.0,)


def _rounded(weights, step, carried):
    """Weights on grids of these steps, in order: what is rounded is made good by what comes.

    Args:
        weights: (groups, inputs, outputs); of each output the greatest is to be 127 steps.
        step: (groups, outputs).
        carried: (groups, inputs, inputs), upper triangular: the inputs' inverse is its square.
    """
    size = weights.shape[1]
    peaks = np.abs(weights).argmax(1)
    at_peak = np.sign(np.take_along_axis(weights, peaks[:, None], 1)[:, 0]) * LARGEST * step
    weights, rounded = weights.copy(), np.empty_like(weights)
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
    return rounded
