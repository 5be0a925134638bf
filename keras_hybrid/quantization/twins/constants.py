"""What layers compute of their weights alone, as constants of the graph that is converted.

The converter would fold it, too, but slowly: four operators out of ten of a network's graph were
such, the rounding of biases most of all.
"""

import keras


def folded(compute, weight: keras.Variable):
    """What a function computes; where a graph is traced with constants for weights, a constant.

    Args:
        compute: a function without arguments, of weights alone.
        weight: the largest of them, which tells what stands for them at present.
    """
    if keras.backend.backend() != "tensorflow":
        return compute()
    import tensorflow as tf

    value = weight.value
    constant = not isinstance(value, tf.Variable) and not tf.is_symbolic_tensor(value)
    if tf.executing_eagerly() or not constant:
        return compute()
    with tf.init_scope():
        return compute()
