"""Channels of a kernel that training left at zeros."""

import numpy as np

from keras_hybrid.quantization.twins.kernels import QuantizedKernel, fill_dead
from keras_hybrid.surgery.editable_model import EditableModel


def edit_dead_channels(model: EditableModel) -> bool:
    """Gives kernels' channels of zeros a range: of one of 0, there is no step to round a bias to.

    Args:
        model: of `quantize`, to be converted.

    Returns: whether there were such channels.
    """
    found = False
    for step in model.steps:
        if not step.is_a(QuantizedKernel):
            continue
        for name, otherwise in (("kernel_min", -1.0), ("kernel_max", 1.0)):
            limits = step.weight(name)
            if limits is not None and np.ndim(limits) == 1 and not np.all(limits):
                step.edit().weights[name] = fill_dead(limits, otherwise)
                found = True
    return found
