"""Times .tflite models: on this machine, or on Android phones over adb.

python tflite/benchmark.py --target=host MODEL.tflite... --threads=1,2
"""

import sys

from absl import app, flags

from keras_hybrid.benchmark import benchmark_host

FLAGS = flags.FLAGS
flags.DEFINE_enum("target", "host", ["host"], "Where to run the models.")
flags.DEFINE_multi_integer("threads", [1], "Number of threads; may be repeated.")


def main(argv):
    if len(argv) < 2:
        raise app.UsageError("name at least one .tflite file")
    failed = False
    for path in argv[1:]:
        for num_threads in FLAGS.threads:
            row = benchmark_host(path, num_threads)
            failed |= row.status != "ok"
            print(
                f"{row.model}  threads {row.num_threads}  {row.status}  "
                + "  ".join(
                    f"{name[:-3]} {getattr(row, name):.3f} ms"
                    for name in ("median_ms", "mean_ms", "p90_ms", "std_ms", "init_ms", "first_ms")
                    if getattr(row, name) is not None
                ),
                *row.notes,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    app.run(main)
