"""Asks real engines what they take of .tflite files, and tells what they refuse and why.

    python tflite/check.py a.tflite b.tflite

The engines are LiteRT with XNNPACK, LiteRT.js' GPU engine in headless Chromium, Arm's compiler for
its NPU Ethos-U85, with cycles by its model, and MediaPipe Tasks. What is not installed is told with
the command that installs it. Exit status 0 whatever they say; 2 for wrong usage.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("engines", ["gpu", "npu", "mediapipe"], "Which to ask beside the CPU's.")


def main(argv):
    if len(argv) < 2:
        print("check.py: name .tflite files", file=sys.stderr)
        return 2
    from keras_hybrid.engines.check import check_engines

    for path in argv[1:]:
        try:
            print(check_engines(path, tuple(FLAGS.engines)).text())
        except ValueError as error:
            print(f"check.py: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    app.run(main)
