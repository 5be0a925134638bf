"""Residuals around attention to tokens are added flat, and no others."""

import keras
import pytest
from keras import layers

from keras_hybrid import layers as own
from keras_hybrid.surgery.passes.flat_residuals import edit_flat_residuals
from keras_hybrid.surgery.pipelines import edited


def count_reshapes(model):
    return sum(isinstance(layer, layers.Reshape) for layer in model.layers)


def tokens(x, channels=4):
    return own.GlobalTokens(3, channels)(x)


def attend(query, key, value=None, num_heads=2, **options):
    value = key if value is None else value
    return own.DotProductAttention(num_heads, **options)([query, key, value])


def residual(x, key):
    return layers.Add()([x, attend(x, key)])


@pytest.fixture
def flattened(check_edit):
    """The model of `compute`, after the pass, which computes the same."""

    def run(compute, size=8, channels=4):
        x = keras.Input((size, size, channels))
        return check_edit(edit_flat_residuals, keras.Model(x, compute(x)))

    return run


@pytest.mark.parametrize("size", [8, 1])  # more and fewer pixels than tokens
def test_the_sum_is_flat_for_attention_from_tokens_and_a_map_for_others(flattened, size):
    def compute(x):
        y = layers.Add()([x, attend(x, tokens(x), name="to")])
        return [attend(tokens(x), y, name="from"), layers.Conv2D(3, 1)(y)]

    result = flattened(compute, size)
    assert count_reshapes(result) == 2
    assert len(result.get_layer("to").output.shape) == 3
    assert all(len(x.shape) == 3 for x in result.get_layer("from").input)


def test_one_residual_after_another(flattened):
    def compute(x):
        y = residual(residual(x, tokens(x)), tokens(x))
        return layers.Conv2D(3, 1)(y)

    result = flattened(compute)
    for layer in result.layers:
        if isinstance(layer, own.DotProductAttention):
            assert len(layer.output.shape) == 3


def key_alone(x, y):
    return attend(tokens(x), y, layers.Dense(4)(y), name="reader")


def query(x, y):
    return layers.Conv2D(3, 1)(attend(y, tokens(x), name="reader"))


def keys_of_windows(x, y):
    return attend(x, y, window_size=4, name="reader")


@pytest.mark.parametrize("read", [key_alone, query, keys_of_windows])
def test_other_attention_reads_the_sum_as_a_map(flattened, read):
    result = flattened(lambda x: read(x, residual(x, tokens(x))))
    assert count_reshapes(result) == 2
    ranks = {len(x.shape) for x in result.get_layer("reader").input if x.shape[1] != 3}
    assert ranks == {4}


def shown(x):
    return residual(x, tokens(x))


def attention_with_two_readers(x):
    attended = attend(x, tokens(x))
    return [layers.Conv2D(2, 1)(layers.Add()([x, attended])), layers.Conv2D(3, 1)(attended)]


def added_to_another_map(x):
    y = layers.Conv2D(4, 1)(x)
    return layers.Conv2D(3, 1)(layers.Add()([y, attend(x, tokens(x))]))


def added_to_two_maps(x):
    y = layers.Conv2D(4, 1)(x)
    return layers.Conv2D(3, 1)(layers.Add()([x, y, attend(x, tokens(x))]))


def added_to_fewer_channels(x):
    y = layers.Conv2D(1, 1)(x)
    attended = attend(y, tokens(x, 1), tokens(x, 4), num_heads=1)
    return layers.Conv2D(3, 1)(layers.Add()([y, attended]))


def concatenated(x):
    return layers.Conv2D(3, 1)(layers.Concatenate()([x, attend(x, tokens(x))]))


def to_a_map(x):
    key, value = layers.Conv2D(4, 1)(x), layers.Conv2D(4, 1)(x)
    return layers.Conv2D(3, 1)(layers.Add()([x, attend(x, key, value)]))


def among_tokens(x):
    y = layers.Dense(4)(layers.Reshape((-1, 4), name="tokens")(x))
    return layers.Dense(3)(residual(y, tokens(x)))


def by_one_attention_called_twice(x):
    attention = own.DotProductAttention(2)
    y = layers.Add()([x, attention([x, tokens(x), tokens(x)])])
    y = layers.Add()([y, attention([y, tokens(x), tokens(x)])])
    return layers.Conv2D(3, 1)(y)


def by_one_sum_called_twice(x):
    add = layers.Add()
    y = add([x, attend(x, tokens(x))])
    return layers.Conv2D(3, 1)(add([y, attend(y, tokens(x))]))


@pytest.mark.parametrize(
    "compute",
    [
        shown,
        attention_with_two_readers,
        added_to_another_map,
        added_to_two_maps,
        added_to_fewer_channels,
        concatenated,
        to_a_map,
        among_tokens,
    ],
)
def test_what_is_no_residual_around_attention_to_tokens_stays(flattened, compute):
    own_reshapes = compute is among_tokens
    assert count_reshapes(flattened(compute)) == own_reshapes


@pytest.mark.parametrize("compute", [by_one_attention_called_twice, by_one_sum_called_twice])
def test_each_call_of_a_layer_is_a_residual_of_its_own(flattened, compute):
    assert count_reshapes(flattened(compute)) > 0


def test_maps_of_unknown_size_stay():
    x = keras.Input((None, None, 4))
    model = keras.Model(x, layers.Conv2D(3, 1)(residual(x, tokens(x))))
    assert count_reshapes(edited(model, [edit_flat_residuals]).to_model()) == 0
