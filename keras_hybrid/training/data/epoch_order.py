"""Which example comes when, with which seeds: the same for all tasks, processes and resumptions."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_hybrid.training.data.process_share import Share
from keras_hybrid.training.recipe.common import CommonRecipe

# None of these functions needs TensorFlow to rewrite its Python, which takes seconds.
_plain = tf.autograph.experimental.do_not_convert
SEEDS = 5  # of an example; more are folded out of them


def examples_in_order(
    count: int,
    recipe: CommonRecipe,
    steps: int,
    first_epoch: int,
    first_step: int,
    share: Share,
    arrange: Callable | None = None,
    groups: np.ndarray | None = None,
) -> tf.data.Dataset:
    """The examples of all epochs that the process reads, in the order of its batches.

    An epoch is a permutation of the whole split, of which what fills no batch is left out. It
    follows from the recipe's seed and the epoch's number alone.

    Args:
        count: examples of the split.
        recipe: with epochs, batch size and seed.
        steps: training steps of an epoch.
        first_epoch: from 0.
        first_step: so many batches of the first epoch are left out.
        share: the process's place among those that train together.
        arrange: (an endless epoch of examples, steps to leave out) -> its examples in another
            order, for batches that are put together otherwise; None for one after the other.
        groups: (count,), of each example, where a global batch has examples of one group; None
            where any go together.

    Returns: a dataset of {"place": in the split, "seeds": (5, 2) integers}.
    """

    @_plain
    def epoch_places(epoch):
        seed = tf.random.fold_in([recipe.seed, 0], epoch)
        done = tf.where(epoch == first_epoch, tf.constant(first_step, tf.int64), 0)
        order = tf.range(tf.constant(count, tf.int64))
        order = tf.random.experimental.stateless_shuffle(order, tf.random.fold_in(seed, 0))
        if groups is not None:
            order = _in_groups(order, groups, recipe.batch_size)
        places = tf.data.Dataset.from_tensor_slices(order)
        if arrange is None:
            places = places.take(steps * recipe.step_batch_size).enumerate()
            places = places.skip(done * recipe.step_batch_size).filter(
                _plain(lambda index, _: share.holds(index, recipe.step_batch_size))
            )
        else:
            places = places.repeat().enumerate()
        examples = places.map(
            _plain(
                lambda index, place: {
                    "place": place,
                    "seeds": tf.random.split(tf.random.fold_in(seed, index), SEEDS),
                }
            )
        )
        return examples if arrange is None else arrange(examples, done)

    return tf.data.Dataset.range(first_epoch, recipe.epochs).flat_map(epoch_places)


def _in_groups(order, groups, batch_size):
    """Places such that batches of one group follow each other, in the order in which they are full.

    What fills no batch of its group is left out.
    """
    own = tf.gather(tf.constant(groups), order)
    batches = []
    for group in np.unique(groups):
        found = tf.where(own == group)[:, 0]
        whole = tf.size(found) // batch_size * batch_size
        batches.append(tf.reshape(found[:whole], (-1, batch_size)))
    batches = tf.concat(batches, 0)
    batches = tf.gather(batches, tf.argsort(batches[:, -1]))
    return tf.gather(order, tf.reshape(batches, [-1]))
