"""Wide hidden maps in parts of their channels, so that each lies in an NPU's fast memory.

A convolution that widens a map, what is done to each channel by itself, and a 1x1 convolution that
narrows it again are the sum of the same for each part of the channels. Ethos-U85-256 has 384 KiB of
fast memory: two of iFormer-M's blocks of 28 x 28 x 384 take 0.93 million cycles in two halves, and
1.49 whole, as the hidden map goes to slow memory and back; in four parts they take longer again.
Where two products of a map are compared, or a map is multiplied by its sigmoid, there are three
maps at once, and parts are thirds: Mobile-Former's block of 56 x 56 x 96 takes 0.97, and 1.19
whole. Halves of fewer than 64 channels leave multipliers idle: iFormer-T's blocks stay whole. Of
512 channels and more, whose weights take as much room, maps over a third of the memory are worth
two halves: 14 x 14 x 768 and the like, which makes iFormer-M 2.0 % quicker, and iFormer-S 4.5 %.
"""

import math

import keras

from keras_hybrid.layers import TwoSlopeReLU
from keras_hybrid.surgery.editable_model import EditableModel, Step, new_step

FAST_MEMORY = 384 * 2**10  # bytes
BRICK = 16  # channels that an NPU takes at once
MANY_CHANNELS = 512  # of which the weights lie in fast memory, too


def edit_channel_parts(model: EditableModel):
    """Computes hidden maps of over half, or a third, of the fast memory in as many parts."""
    for end in list(model.steps):
        region = _region(model, end)
        if region is not None:
            _part(model, *region, end)


def _region(model, end):
    """The widening convolution before a narrowing one, and the steps between; or None."""
    if not _is_dense(end) or math.prod(end.setting("kernel_size")) != 1:
        return None
    if end.setting("activation") != "linear" or set(end.setting("strides")) != {1}:
        return None
    between: list[Step] = []
    reader = end
    while True:
        value = reader.inputs[0]
        step = model.producer(value)
        if step is None or model.only_consumer(value) is not reader:
            return None
        if _is_dense(step):
            return (step, between) if _is_worth_it(step, between) else None
        if not _is_by_channel(model, step):
            return None
        between.insert(0, step)
        reader = step


def _is_dense(step):
    return step.layer_class is keras.layers.Conv2D and step.setting("groups") == 1


def _is_by_channel(model, step):
    """Whether each channel of the output is computed of that of the input alone."""
    if step.layer_class is keras.layers.DepthwiseConv2D:
        return step.setting("depth_multiplier") == 1
    if step.layer_class is keras.layers.Activation:
        return step.setting("activation") != "softmax"
    if step.layer_class is TwoSlopeReLU:
        return all(
            slopes.layer_class is keras.layers.Dense and model.only_consumer(value) is step
            for value in step.inputs[1:]
            if (slopes := model.producer(value)) is not None
        )
    return step.layer_class is keras.layers.ReLU


def _is_worth_it(start, between):
    shapes = [start.inputs[0].shape[1:], *(x.output.shape[1:] for x in (start, *between))]
    bricks, maps = (6, 3) if _in_thirds(between) else (8, 2)
    if any(None in shape for shape in shapes) or shapes[1][-1] < bricks * BRICK:
        return False
    if shapes[1][-1] >= MANY_CHANNELS:
        maps = 3
    narrow, *wide = map(math.prod, shapes)
    return narrow <= FAST_MEMORY // 2 and FAST_MEMORY // maps < max(wide) <= 2 * FAST_MEMORY


def _in_thirds(between):
    return any(x.is_a(TwoSlopeReLU) or x.setting("activation") == "silu" for x in between)


def _part(model, start, between, end):
    channels = start.output.shape[-1]
    width = -(-channels // (BRICK * (3 if _in_thirds(between) else 2))) * BRICK
    new, sums = [], []
    for number, first in enumerate(range(0, channels, width)):
        part = slice(first, min(first + width, channels))
        value = start.inputs[0]
        for step in (start, *between):
            slopes = [_for_part(model.producer(x), number, part, x) for x in step.inputs[1:]]
            new += slopes
            values = [value, *(x.output for x in slopes)]
            new.append(_for_part(step, number, part, *values))
            value = new[-1].output
        new.append(_narrowing(end, number, part, value))
        sums.append(new[-1].output)
    total = new_step(keras.layers.Add(name=end.edit().name), [sums], end.output.shape)
    model.replace(end, *new, total)


def _for_part(step, number, part, *values):
    """A step for some of its output's channels."""
    step.edit()
    config = {**step.config, "name": f"{step.name}_part{number}"}
    shape = (*step.output.shape[:-1], part.stop - part.start)
    for size in ("filters", "units"):
        if size in config:
            config[size] = shape[-1]
            values = (step.inputs[0],)  # all of its channels
    args = [list(values)] if len(values) > 1 else list(values)
    weights = {
        name: value[:, :, part] if name == "kernel" and _by_channel(step) else value[..., part]
        for name, value in step.weights.items()
    }
    made = new_step(step.layer_class.from_config(config), args, shape, weights, step.origin)
    made.call = step.call
    if step.folded_norm is not None:
        made.folded_norm = step.folded_norm.of_channels(part)
    return made


def _by_channel(step):
    return step.layer_class is keras.layers.DepthwiseConv2D


def _narrowing(end, number, part, value):
    """The 1x1 convolution of some of the channels; the first one has the bias."""
    end.edit()
    weights = {**end.weights, "kernel": end.weights["kernel"][:, :, part]}
    if number:
        weights.pop("bias", None)
    config = {**end.config, "name": f"{end.name}_part{number}", "use_bias": "bias" in weights}
    layer = keras.layers.Conv2D.from_config(config)
    made = new_step(layer, [value], end.output.shape, weights, end.origin)
    made.call = end.call
    return made
