"""Settings of a training process, for programs."""

import keras
from absl import logging


def _is_no_retracing(record) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()


def prepare_process():
    """Silences the libraries' running commentary, and shortens TensorFlow's start on a CPU.

    Where there is only a CPU, TensorFlow's graph rewriting is turned off: it costs more than the
    tracing of the step (15 s of 45 for the smallest Mobile-Former) and gains little. Other
    backends and machines with accelerators stay as they are.
    """
    logging.set_verbosity(logging.WARNING)
    import tensorflow as tf

    # A run has functions of its own for training, evaluation, predictions: many, each traced once.
    tf.get_logger().addFilter(_is_no_retracing)
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")  # here it only reads data
        return
    if all(device.device_type == "CPU" for device in tf.config.list_physical_devices()):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
