"""TensorFlow without its running commentary: what it prints before it reads the log level."""

import os
import re
import sys
import tempfile

# Lines of information (I0000 ...), and the announcement of where they go.
_COMMENTARY = re.compile(rb"(I0000 00:00|WARNING: All log messages before absl::InitializeLog\(\))")


def load_tensorflow():
    """Imports TensorFlow; of what it writes meanwhile, all but commentary appears.

    TensorFlow 2.21 writes before it reads `TF_CPP_MIN_LOG_LEVEL`, from C++: only the descriptor
    itself can be turned away. Errors and warnings come through, and all of it where the import
    fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        import tensorflow

        return
    whole = False
    with tempfile.TemporaryFile() as meanwhile:
        os.dup2(meanwhile.fileno(), 2)
        try:
            import tensorflow  # noqa: F401

            whole = True
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            meanwhile.seek(0)
            for line in meanwhile:
                if not whole or not _COMMENTARY.match(line):
                    os.write(2, line)


def prepare():
    """What every subcommand that computes does first."""
    load_tensorflow()
    from keras_hybrid.training.run.startup import prepare_process

    prepare_process()
