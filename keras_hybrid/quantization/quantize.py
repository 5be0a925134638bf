"""A functional Keras model in, the same with int8's roundings out: `quantize`."""

import difflib

import keras

from keras_hybrid.layers import DotProductAttention
from keras_hybrid.quantization.passes.preparation import (
    edit_activations,
    edit_batch_norms,
    edit_joined_activations,
    edit_long_sums,
    edit_slopes,
    insert_after,
)
from keras_hybrid.quantization.placement import Placement
from keras_hybrid.quantization.ranges import tfmot
from keras_hybrid.quantization.ranges.fake_quantize import FakeQuantize, fake_quantizers
from keras_hybrid.quantization.rules import (
    INSIDE,
    PROFILES,
    converter_rounds,
)
from keras_hybrid.quantization.twins.composites import Composite
from keras_hybrid.quantization.twins.float_guard import (
    FloatDotProductAttention,
    Requantize,
    StayFloat,
)
from keras_hybrid.quantization.twins.frozen_norm import BATCH_NORMS, unfold_batch_norm
from keras_hybrid.quantization.twins.kernels import QuantizedKernel
from keras_hybrid.surgery.editable_model import EditableModel, new_step
from keras_hybrid.surgery.fuse import formulated
from keras_hybrid.surgery.passes.channel_shuffle import edit_channel_shuffles
from keras_hybrid.surgery.passes.depthwise import edit_depth_multipliers
from keras_hybrid.surgery.passes.image_scaling import edit_products_and_sums


def quantize(
    model: keras.Model,
    profile: str = "int8",
    *,
    keep_float: tuple[str, ...] = (),
    batch_norm: str = "folded",
    weight_quantizer=None,
    activation_quantizer=None,
    rules: dict | None = None,
) -> keras.Model:
    """Rewrites a model so that it computes with int8's roundings, to be calibrated and trained.

    The result is an ordinary functional Keras model: `calibrate` it for post-training
    quantisation, `compile` and `fit` it for quantisation-aware training, then `export_tflite` it.

    The model is fused first, as for conversion: kernels are rounded as they ship, with batch norm
    in them. No statistics are taken in training: the grids would differ from step to step.

    Args:
        model: a functional model of this package's or standard layers; it is left as it is.
        profile: "int8" for int8 throughout, as accelerators want; "int8_cpu" for float where a
            phone's CPU is faster in float (the table in `keras_hybrid/quantization/rules.py`).
        keep_float: names of layers to leave in float. A name also stands for the layers that were
            made of it, and for a block, by their common beginning.
        batch_norm: "folded" for kernels and biases that train with batch norm in them; "frozen" for
            batch norm's scale and offset beside the kernel, in the quantised layers that it
            followed in float (`get_layer("stem").batch_norm`). Both train; its statistics stay, and
            the file is that of "folded". Where a convolution became the sum of several, and in
            layers left in float, batch norm is folded all the same.
        weight_quantizer: a TFMOT `Quantizer` of kernels; None for `LastValueQuantizer`, per
            channel, symmetric, narrow range.
        activation_quantizer: a TFMOT `Quantizer` of activations; None for
            `MovingAverageQuantizer`.
        rules: more rows for the table, by layer class.

    Returns: a new model with the same inputs and outputs.

    Raises:
        ValueError: for another backend than TensorFlow, a model that is not functional or
            already quantised, an unknown profile or `batch_norm`, a layer without quantised twin, a
            name in `keep_float` that no layer has.

    Reference: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference (https://arxiv.org/abs/1712.05877).
    """
    _check(model, profile, batch_norm)
    editable = formulated(model)
    if profile == "int8":
        edit_depth_multipliers(editable, strided=True)
        edit_channel_shuffles(editable)
    edit_activations(editable)
    edit_joined_activations(editable)
    edit_long_sums(editable)
    edit_batch_norms(editable)
    edit_products_and_sums(editable)
    floats = _kept_float(model, editable, keep_float)
    placement = Placement(editable, profile, floats, rules or {})
    rewriting = _Rewriting(editable, placement, activation_quantizer)
    rewriting.run(weight_quantizer, batch_norm == "frozen")
    quantized = editable.to_model()
    for layer in quantized.layers:
        if isinstance(layer, QuantizedKernel):
            layer.reset_range()
    return quantized


def is_quantized(model: keras.Model) -> bool:
    """Whether `quantize` made the model."""
    return bool(fake_quantizers(model))


def _check(model, profile, batch_norm):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Quantisation needs the TensorFlow backend: save the model, set "
            "KERAS_BACKEND=tensorflow and load it there. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    if profile not in PROFILES:
        raise ValueError(f"`profile` must be one of {PROFILES}. Received: profile={profile!r}")
    if batch_norm not in BATCH_NORMS:
        raise ValueError(
            f"`batch_norm` must be one of {BATCH_NORMS}. Received: batch_norm={batch_norm!r}"
        )
    if isinstance(model, keras.Sequential) and model.built:
        model = model._functional
    if not getattr(model, "_nodes_by_depth", None):
        raise ValueError(
            "A functional model is expected: a subclassed one has no graph to rewrite. "
            f"Received: model={model!r}"
        )
    if is_quantized(model):
        raise ValueError(
            "The model is quantised already: train or export it as it is. "
            f"Received: model {model.name!r}"
        )


def _kept_float(model, editable, names):
    """The steps that the names stand for."""
    if isinstance(names, str):
        names = (names,)
    kept = set()
    for name in names:
        found = [x for x in editable.steps if x.name == name or x.name.startswith(f"{name}_")]
        if not found:
            raise ValueError(_unknown_name(model, editable, name))
        kept.update(found)
    return kept


def _unknown_name(model, editable, name):
    if name in {layer.name for layer in model.layers}:
        return (
            "`keep_float` must name layers that remain when the model is fused; this one became "
            f"part of its neighbours. Received: keep_float=({name!r},)"
        )
    close = difflib.get_close_matches(name, [step.name for step in editable.steps], n=3)
    return (
        "`keep_float` must name layers of the model"
        + (f"; close to it: {', '.join(close)}" if close else "")
        + f". Received: keep_float=({name!r},)"
    )


class _Rewriting:
    """One model's rewriting: which values are rounded on which grid, and the twins."""

    def __init__(self, model: EditableModel, placement: Placement, activation_quantizer):
        self.model, self.placement = model, placement
        self.activation_quantizer = activation_quantizer
        self.rules, self.int8 = placement.rules, placement.int8
        self.producers = placement.producers
        self.limits = edit_slopes(model, lambda step: self.int8[step])

    def run(self, weight_quantizer, unfold):
        """Puts the roundings in, then the twins."""
        origins = {}  # where a value that is only moved about was computed
        for step in self.model.steps:
            for value in step.outputs:
                moved = self.placement.moves(step) and self.int8[step]
                origins[value] = origins[step.inputs[0]] if moved else value
        symmetric, together = set(), self._split_sums()
        for step in self.rules:
            if self.int8[step]:
                rule = self.rules[step]
                symmetric.update(origins[step.inputs[number]] for number in rule.symmetric)
                if rule.one_range:
                    together.append([origins[value] for value in step.inputs])
        for value, step in self.producers.items():
            if origins[value] is not value or self._fused_with_next(value):
                continue
            inside = step in self.rules and self.rules[step].output == INSIDE
            if inside and self.int8[step]:
                continue
            after = self.model.consumers(value)
            if self._rounds_for_all(step) or any(self.int8[x] for x in after):
                self._round(value, step, value in symmetric)
        self._share(together)
        self._center()
        self._mark_floats()
        for step in self.rules:
            if self.int8[step]:
                self._twin(step, self.rules[step].twin, weight_quantizer, unfold)

    def _fused_with_next(self, value):
        """Whether an int8 kernel does the activation that alone follows it."""
        step, after = self.producers[value], self.model.only_consumer(value)
        return (
            after is not None
            and self.int8[step]
            and self.int8[after]
            and self.placement.fused(after)
        )

    def _round(self, value, step, symmetric):
        """Puts a `FakeQuantize` behind a value."""
        rule, bounds = self.rules.get(step), None
        if self.int8[step] and rule and isinstance(rule.output, tuple):
            bounds = rule.output
        number = "" if len(step.outputs) == 1 else str(step.outputs.index(value))
        layer = FakeQuantize(
            tfmot.fixed(*bounds) if bounds else tfmot.learned(self.activation_quantizer, symmetric),
            limits=self.limits.get(value),
            name=f"{step.name}_rounded{number}",
        )
        new = new_step(layer, [value], value.shape)
        new.partial = True
        if self._rounds_for_all(step):
            insert_after(self.model, step, new)
            return
        # Who computes in float goes on with the float value.
        for consumer in self.model.consumers(value):
            if self.int8[consumer]:
                consumer.replace_input(value, new.output)
        self.model.steps.insert(self.model.steps.index(step) + 1, new)
        if converter_rounds(step):
            # One mark alone would be computed in int8, between the converter's grid and ours.
            for name in ("once", "only"):
                mark = new_step(StayFloat(name=f"{layer.name}_{name}"), new.inputs, value.shape)
                new.replace_input(new.inputs[0], mark.output)
                self.model.steps.insert(self.model.steps.index(new), mark)

    def _rounds_for_all(self, step):
        """Whether layers in float take the rounded value, too: an int8 layer's, and the image's,
        which the file may take in integers."""
        return self.int8[step] or step.is_a(keras.layers.InputLayer)

    def _split_sums(self):
        """Parts of one convolution: one range spares their sum a rescaling."""
        groups = []
        for step in self.rules:
            if step.is_a(keras.layers.Add) and self.int8[step]:
                parts = [self.producers[value] for value in step.inputs]
                if all(part.name.startswith(step.name.split("_of")[0]) for part in parts):
                    groups.append(list(step.inputs))
        return groups

    def _share(self, together):
        """Lets all values of a group be rounded by one layer."""
        roundings = [step for step in self.model.steps if step.is_a(FakeQuantize)]
        of_value = {step.inputs[0]: step for step in roundings}
        for group in together:
            steps = [of_value[value] for value in group if value in of_value]
            steps = [step for step in steps if step.operation.fixed_range is None]
            for old in [step.operation for step in steps[1:]]:
                for other in roundings:
                    if other.operation is old:
                        other.operation, other.config = steps[0].operation, steps[0].config

    def _center(self):
        """Rounds what is to be quantised around 0 once more, where its own range is fixed."""
        for step in list(self.rules):
            if not self.int8[step]:
                continue
            for number in self.rules[step].symmetric:
                value = step.inputs[number]
                producer = self.model.producer(value)
                if not producer.is_a(FakeQuantize) or producer.operation.fixed_range is None:
                    continue
                name = f"{step.name}_input{number}"
                again = new_step(Requantize(name=f"{name}_again"), [value], value.shape)
                quantizer = tfmot.learned(self.activation_quantizer, symmetric=True)
                layer = FakeQuantize(quantizer, name=f"{name}_rounded")
                rounded = new_step(layer, [again.output], value.shape)
                rounded.partial = True
                step.replace_input(value, rounded.output)
                index = self.model.steps.index(step)
                self.model.steps[index:index] = [again, rounded]

    def _mark_floats(self):
        """Keeps the converter from making int8 what lies between roundings."""
        for step in list(self.model.steps):
            if self.int8.get(step, True):
                continue
            if step.layer_class is DotProductAttention:
                step.edit().layer_class = FloatDotProductAttention
            for value in set(step.inputs):
                origin = self._computed_by(value)
                if origin.is_a(StayFloat):
                    continue
                if origin.is_a(FakeQuantize) or converter_rounds(origin):
                    name = f"{step.name}_float{step.inputs.index(value)}"
                    mark = new_step(StayFloat(name=name), [value], value.shape)
                    step.replace_input(value, mark.output)
                    self.model.steps.insert(self.model.steps.index(step), mark)

    def _computed_by(self, value):
        """The step that computes or rounds a value that is only moved about since."""
        step = self.model.producer(value)
        while step in self.rules and self.placement.moves(step):
            step = self.model.producer(step.inputs[0])
        return step

    def _twin(self, step, twin, weight_quantizer, unfold):
        if twin is None:
            return
        step.edit()
        step.layer_class, step.partial = twin, True
        step.config.update(self.placement.settings[step])
        if issubclass(twin, QuantizedKernel):
            if weight_quantizer is not None:
                step.config["weight_quantizer"] = tfmot.serialize(weight_quantizer)
            if unfold:
                unfold_batch_norm(step)
        elif issubclass(twin, Composite) and self.activation_quantizer is not None:
            step.config["activation_quantizer"] = tfmot.serialize(self.activation_quantizer)
