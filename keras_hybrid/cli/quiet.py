"""TensorFlow without its running commentary: what it prints before it reads the log level."""

import os
import sys

from keras_hybrid.commentary import without_commentary


def load_tensorflow():
    """Imports TensorFlow; of what it writes meanwhile, all but commentary appears."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules:
        with without_commentary():
            import tensorflow  # noqa: F401


def prepare():
    """What every subcommand that computes does first."""
    load_tensorflow()
    from keras_hybrid.training.run.startup import prepare_process

    prepare_process()
