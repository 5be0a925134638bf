"""x + depthwise(x) as one depthwise convolution (iFormer's RepCPE)."""

import keras

from keras_hybrid.surgery.affine import affine_producer
from keras_hybrid.surgery.editable_model import EditableModel


def edit_position_encodings(model: EditableModel):
    """Adds 1 to the middle of the kernel in place of the residual."""
    for step in list(model.steps):
        if not step.is_a(keras.layers.Add) or len(step.inputs) != 2:
            continue
        for shortcut, branch in (step.inputs, step.inputs[::-1]):
            depthwise = affine_producer(model, branch)
            if depthwise is not None and depthwise.inputs == [shortcut] and _keeps(depthwise):
                kernel = depthwise.edit().weights["kernel"].copy()
                kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] += 1
                depthwise.weights["kernel"] = kernel
                model.redirect(step.output, branch)
                model.remove(step)
                break


def _keeps(step):
    """Whether the step convolves each channel with itself around its own position."""
    return (
        step.is_a(keras.layers.DepthwiseConv2D)
        and step.setting("depth_multiplier") == 1
        and step.setting("padding") == "same"
        and all(size % 2 for size in step.setting("kernel_size"))
        and all(stride == 1 for stride in step.setting("strides"))
        and all(rate == 1 for rate in step.setting("dilation_rate"))
    )
