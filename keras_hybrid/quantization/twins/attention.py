"""Quantised twin of attention."""

import math

import keras
from keras import ops

from keras_hybrid.layers import DotProductAttention
from keras_hybrid.layers.attention_heads import flat, head_mask, zeros_between_heads
from keras_hybrid.quantization.twins.composites import (
    PROBABILITY,
    Composite,
    fixed_quantizer,
    logarithm_of,
)
from keras_hybrid.quantization.twins.engine_rounding import (
    counted_product,
    product_of_steps,
    rounded_product,
    rounded_softmax,
    rounded_sums_of_rows,
    rounded_total_of,
)
from keras_hybrid.quantization.twins.float_guard import GUARD_FACTOR
from keras_hybrid.quantization.twins.roundings_around import rounding_before

# From this many keys on, the softmax operator's grid of 1/256 is too coarse for equal weights, and
# the operator takes longer than the others together (3.0 and 1.3 ns a weight, on one x86 core).
LONG_ROW = 128
NEGLIGIBLE = -10.0  # of a score less the row's greatest: its exponential is 0 in int8


@keras.saving.register_keras_serializable("keras_hybrid")
class QuantizedDotProductAttention(Composite, DotProductAttention):
    """`DotProductAttention` in int8: scores, softmax with its fixed range, attended values.

    Keys and values are to be quantised around 0: what stands on the right of a matrix product.

    Long rows of weights are spelled out: with e = exp(score - greatest score), the values are
    averaged with e / sqrt(sum of e), and what comes of it is divided by the sum of these weights.
    So the grids of weights and of averages hold both rows of one large and of many equal weights,
    where 1/256 is nothing; what the square root is rounded to makes no difference.

    Args:
        float_softmax: whether the softmax between the int8 products is computed in float.
        float_scores: whether the scores are, too; implies `float_softmax`.
    """

    def __init__(self, *args, float_softmax: bool = False, float_scores: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.float_softmax = float_softmax or float_scores
        self.float_scores = float_scores

    def build(self, input_shape):
        super().build(input_shape)
        query, key, _ = input_shape
        self.scores = None if self.float_scores else self._learned("scores")
        zeros = self._zeros(query, key)
        # What is computed last is rounded after the layer, and not twice.
        if self._is_long(query, key):
            self._build_long_rows()
            self.attended = self._learned("attended")
            self.averaged = self._learned("averaged") if zeros == "query" else None
        else:
            self.weights_ = fixed_quantizer("weights", PROBABILITY)
            self.attended = self._learned("attended") if zeros == "query" else None
        scaled = self.scale_of(query) != 1 and not self.float_scores
        self.scaled = self._learned("scaled") if scaled else None
        self.masked_query = self.masked_key = self.masked_value = None
        if zeros == "query":
            self.masked_query = self._learned("masked_query")
            self.selected = self._learned("selected")
        elif zeros == "key":
            self.masked_key = self._learned("masked_key", symmetric=True)
            self.masked_value = self._learned("masked_value", symmetric=True)

    # Keys of a row from which on softmax is spelled out.
    long_row = LONG_ROW

    def _is_long(self, query, key):
        """Whether softmax is spelled out."""
        if self.float_softmax or self._zeros(query, key) == "key":
            return False
        if self.window_size:
            return self.window_size**2 >= self.long_row
        axes = key[1:-1]
        if self.separate_positions:
            axes = key[2:3] if self.positions_first else key[1:2]
        return None not in axes and math.prod(axes) >= self.long_row

    def _build_long_rows(self):
        self.shifted = self._learned("shifted", limits=(NEGLIGIBLE, 0.0))
        self.exponentials = fixed_quantizer("exponentials", (0.0, 1.0))
        self.weights_ = self._learned("weights")
        for name in ("root", "inverse"):
            for part in ("sum", "logarithm", "exponent", ""):
                full = f"{name}_{part}" if part else name
                setattr(self, full, self._learned(full))

    def call(self, inputs, training=None):
        query, key, value = inputs
        zeros = self._zeros(query.shape, key.shape)
        if zeros == "query":
            return self._from_tokens(query, key, value, training)
        if zeros == "key":
            return self._to_tokens(query, key, value, training)
        scores = self._product(self.to_heads(query), self.to_heads(key))
        attended = self._attend(scores, self.to_heads(value), inputs, training)
        return self.from_heads(attended, query)

    def _from_tokens(self, query, key, value, training):
        masked = self.masked_query(zeros_between_heads(query, self.num_heads), training=training)
        scores = self._product(masked, flat(key))  # (batch, heads * M, N)
        x = self._attend(scores, flat(value), (query, key, value), training)
        return self._heads_of(x, query, value, training)

    def _heads_of(self, x, query, value, training):
        """(batch, heads * M, D) -> (batch, M, D): of each query, its head's channels."""
        num_tokens, channels = query.shape[1], value.shape[-1]
        x = ops.reshape(x, (-1, self.num_heads, num_tokens, channels))
        x = self.selected(x * head_mask(x, self.num_heads), training=training)
        return ops.sum(x, axis=1)  # (batch, M, D)

    def _to_tokens(self, query, key, value, training):
        heads, num_tokens = self.num_heads, key.shape[1]
        axes = tuple(ops.shape(query)[1:-1])
        keys = self.masked_key(zeros_between_heads(key, self.num_heads), training=training)
        values = self.masked_value(zeros_between_heads(value, self.num_heads), training=training)
        pixels = flat(query)
        scores = self._product(pixels, keys)  # (batch, N, heads * M)
        length = ops.shape(pixels)[1]
        scores = ops.reshape(scores, (-1, length, heads, num_tokens))
        weights = self._softmax(scores, query, training)
        weights = ops.reshape(weights, (-1, length, heads * num_tokens))
        attended = ops.matmul(weights, values)
        if not training:
            attended = rounded_product(self, attended, self._unit_of_values())
        return ops.reshape(attended, (-1, *axes, value.shape[-1]))

    def _unit_of_scores(self):
        """What a score is a whole multiple of."""
        query, key = self.masked_query, self.masked_key
        return product_of_steps(
            rounding_before(self, number=0) if query is None else query,
            rounding_before(self, number=1) if key is None else key,
        )

    def _unit_of_values(self):
        """What a sum of weighted values is a whole multiple of."""
        return product_of_steps(*self._roundings_of_values())

    def _roundings_of_values(self):
        """What rounds the weights, and what rounds the values."""
        value = self.masked_value
        return self.weights_, rounding_before(self, number=2) if value is None else value

    def _product(self, query, key):
        """query key^T."""
        if self.float_scores:
            query, key = query * GUARD_FACTOR, key * GUARD_FACTOR
        return ops.matmul(query, ops.swapaxes(key, -1, -2))

    def _attend(self, scores, values, inputs, training):
        """softmax(scores) values, rounded where it is not what the layer returns."""
        query, key, _ = inputs
        if not self._is_long(query.shape, key.shape):
            attended = ops.matmul(self._softmax(scores, query, training), values)
            unit = self._unit_of_values()
            if self.attended is None:
                return attended if training else rounded_product(self, attended, unit)
            return self.attended(attended, training=training, unit=unit)
        scores = self._scaled_scores(scores, query, training)
        x = self._exponentials(scores, self._greatest(scores), training)
        return self._average(x, values, training)

    def _greatest(self, scores):
        """Each row's greatest score."""
        return ops.max(scores, axis=-1, keepdims=True)

    def _exponentials(self, scores, greatest, training):
        """exp(score - greatest score)."""
        greatest = ops.stop_gradient(greatest)
        shifted = scores - greatest
        if not training:
            roundings = 2 * [self.scores if self.scaled is None else self.scaled]
            shifted = rounded_total_of((scores, greatest), roundings, self.shifted, shifted, -1)
        x = self.shifted(shifted, training=training)
        return self.exponentials(ops.exp(x), training=training)

    def _average(self, x, values, training):
        """The values' averages with weights in proportion to x."""
        x = x * self._power_of_sum(x, "root", -0.5, training)
        unit = product_of_steps(self.exponentials, self.root)
        x = self.weights_(x, training=training, unit=unit)
        inverse = self._power_of_sum(x, "inverse", -1.0, training)
        roundings = self._roundings_of_values()
        attended, _ = counted_product(x, values, [None] if training else roundings)
        unit = product_of_steps(*roundings)
        attended = self.attended(attended, training=training, unit=unit)
        averaged, unit = attended * inverse, product_of_steps(self.attended, self.inverse)
        if self.averaged is not None:
            return self.averaged(averaged, training=training, unit=unit)
        return averaged if training else rounded_product(self, averaged, unit)

    def _sum(self, x):
        """Each row's sum."""
        return ops.sum(x, axis=-1, keepdims=True)

    def _sum_as_integers(self, x, before, after):
        """Each row's sum as the file's kernel rounds it, given what rounds its values and it."""
        return rounded_sums_of_rows(x, self._sum(x), before, after)

    def _power_of_sum(self, x, name, power, training):
        """A power of each row's sum, by look-ups of logarithm and exponential."""
        before = self.exponentials if name == "root" else self.weights_

        def rounded(value, part):
            return getattr(self, f"{name}{part}")(value, training=training)

        if training:
            total = self._sum(x)
        else:
            total = self._sum_as_integers(x, before, getattr(self, f"{name}_sum"))
        total = rounded(total, "_sum")
        logarithm = rounded(logarithm_of(total, training), "_logarithm")
        return rounded(ops.exp(rounded(logarithm * power, "_exponent")), "")

    def _softmax(self, scores, query, training):
        scores = self._scaled_scores(scores, query, training)
        if self.float_softmax and not self.float_scores:
            scores = scores * GUARD_FACTOR
        weights = ops.softmax(scores, axis=-1)
        if not training and not self.float_softmax:
            rounding = self.scores if self.scaled is None else self.scaled
            weights = rounded_softmax(scores, weights, rounding, self.weights_)
        return self.weights_(weights, training=training)

    def _scaled_scores(self, scores, query, training):
        scale = self.scale_of(query.shape)
        if not self.float_scores:
            scores = self.scores(scores, training=training, unit=self._unit_of_scores())
        if scale != 1:
            scores = scores * scale
            if self.scaled is not None:
                scores = self.scaled(scores, training=training)
        return scores

    def values_inside(self, query, key, value) -> int:
        """How many values of one image a call outside of a graph holds, given the inputs' shapes.

        Scores, their exponentials and the weights, each with what it was computed from.
        """
        pairs = self.multiply_adds(query, key, value) // (query[-1] + value[-1])
        return 9 * self.num_heads * pairs

    def _zeros(self, query_shape, key_shape):
        """Where zeros tell heads apart, "query" or "key"; None where heads are transposed."""
        query, key = (self.heads_by_zeros(keras.KerasTensor(x)) for x in (query_shape, key_shape))
        if query and key:
            return "query" if query_shape[1] < key_shape[1] else "key"
        return "query" if query else "key" if key else None

    def get_config(self):
        return {
            **super().get_config(),
            "float_softmax": self.float_softmax,
            "float_scores": self.float_scores,
        }
