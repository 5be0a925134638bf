"""`python -m keras_hybrid` is the command `keras-hybrid`."""

import sys

from keras_hybrid.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
