"""The log for TensorBoard: the run's history, whole also where a run was interrupted."""

import io

import keras
import pytest
import tensorflow as tf

from keras_hybrid.training.run.run import train


def scalars(folder):
    """(name, step) -> value of every event in a folder; each at most once."""
    found = {}
    for file in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                key = (value.tag, event.step)
                assert key not in found
                found[key] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.mark.large
def test_the_log_is_the_history_also_of_a_resumed_run(recipe, source, tmp_path, tiny_network):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, source, tmp_path, stream=io.StringIO(), callbacks=(Stop(),), tensorboard=True)
    log = tmp_path / "tensorboard"
    assert {step for _, step in scalars(log / "train")} == {1, 2}
    run = train(recipe, source, tmp_path, stream=io.StringIO(), tensorboard=True)
    expected = {"train": {}, "validation": {}}
    for row in run.history:
        for name, value in row.items():
            split = "validation" if name.startswith("val_") else "train"
            if name != "epoch":
                expected[split][name.removeprefix("val_"), row["epoch"]] = pytest.approx(value)
    assert {("learning_rate", 3), ("loss", 1)} <= set(expected["train"])
    for split, values in expected.items():
        assert scalars(log / split) == values
