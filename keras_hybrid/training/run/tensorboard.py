"""A run's history for TensorBoard, written without the `tensorboard` package."""

import keras
import tensorflow as tf

from keras_hybrid.files import place

FOLDER = "tensorboard"


class TensorBoardLog(keras.callbacks.Callback):
    """Writes each epoch's metrics and learning rate as scalars: `tensorboard --logdir=runs`.

    Differs from `keras.callbacks.TensorBoard`: that one needs the `tensorboard` package, and a
    resumed run's log would lack an epoch, or hold it twice, where the process was killed. Here the
    log is written anew from the run's history when training starts, and grows from there.

    Args:
        folder: of the run; the log goes to `tensorboard/train` and `tensorboard/validation` in it.
        history: rows of the run, which `Saver` appends to before this callback is called.
    """

    def __init__(self, folder, history: list[dict]):
        super().__init__()
        self.folder = place(folder) / FOLDER
        self.history = history

    def on_train_begin(self, logs=None):
        for old in self.folder.glob("*/events.out.tfevents.*"):
            old.unlink()
        self._writers = {
            name: tf.summary.create_file_writer(str(self.folder / name))
            for name in ("train", "validation")
        }
        for row in self.history:
            self._write(row)

    def on_epoch_end(self, epoch, logs=None):
        self._write(self.history[-1])

    def on_train_end(self, logs=None):
        for writer in self._writers.values():
            writer.close()

    def _write(self, row):
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
            data_class="DATA_CLASS_SCALAR",
        )
        for name, value in row.items():
            if name == "epoch":
                continue
            split = "validation" if name.startswith("val_") else "train"
            with self._writers[split].as_default(), tf.init_scope():
                tf.summary.write(
                    name.removeprefix("val_"),
                    tf.constant(value, tf.float32),
                    step=row["epoch"],
                    metadata=metadata,
                )
        for writer in self._writers.values():
            writer.flush()
