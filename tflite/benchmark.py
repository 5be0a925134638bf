"""Times .tflite models on this machine and on Android phones.

  python tflite/benchmark.py --target=host MODEL.tflite...
  python tflite/benchmark.py --target=android --benchmark_binary=benchmark_model MODEL.tflite...
  python tflite/benchmark.py --target=android --apk=benchmark_model.apk MODEL.tflite...
  python tflite/benchmark.py --target=android --benchmark_binary=benchmark_model --ab A B
  python tflite/benchmark.py --output=new --compare=old/rows.jsonl
  python tflite/benchmark.py import LOG... --delegates=gpu --device="Pixel 9"
  python tflite/benchmark.py --table [flags of comparisons/table.py]

Every combination of model, thread count and delegate is run several times, each time in a fresh
process, in interleaved order. --output gets rows.jsonl (one line for each run, written before the
next one starts), logs/, report.md, rows.csv and pictures. An interrupted matrix goes on with the
same command and --resume. docs/phone.md, "Benchmark", tells where benchmark_model comes from.

With --ab, two files are run in turns in one session and compared pair by pair: the way to find
small differences; with one file, two programs (--b_binary) or sets of flags (--b_flag) are. With
--verify=images/, what a delegate computes is held against this machine first. With --compare, more
processes are run until the comparison is decided or --max_repetitions is reached.

Exit status: 0 all measured; 1 slower than --compare; 2 wrong usage; 3 incomplete, or a
combination without a measurement; 4 the comparison is undecided; 5 an output is wrong.
"""

import os
import pathlib
import signal
import sys
import threading

from absl import app, flags

from keras_hybrid import benchmark
from keras_hybrid.benchmark.results.terminal_table import rows_as_text

FLAGS = flags.FLAGS
WRONG_OUTPUT = 5  # the exit status where a delegate computes something else
# MLCommons' rules of MLPerf Mobile, single stream: its figure is the 90th percentile.
PRESETS = {"mlperf_mobile": {"min_runs": 1024, "min_seconds": 60.0, "max_seconds": 600.0}}
flags.DEFINE_multi_enum("target", ["host"], ["host", "android"], "Where to run; may be repeated.")
flags.DEFINE_multi_string("serial", [], "Device of `adb devices`; default: all that are ready.")
flags.DEFINE_multi_string(
    "benchmark_binary", [], "Android's benchmark_model; repeat for devices of several ABIs."
)
flags.DEFINE_string("host_binary", None, "A benchmark_model for this machine (else LiteRT).")
flags.DEFINE_string("apk", None, "Run through the benchmark app, installing this package.")
flags.DEFINE_bool("app", False, "Run through the benchmark app that is installed already.")
flags.DEFINE_list("threads", ["1"], "Numbers of threads, e.g. 1,4.")
flags.DEFINE_list(
    "delegates",
    ["cpu"],
    "Of cpu (XNNPACK), builtin, gpu, nnapi, npu; with --library dispatch, compiled, qnn, neuron, "
    "ethosu; custom ones.",
)
flags.DEFINE_multi_string("library", [], "A vendor's library that a delegate needs on the phone.")
flags.DEFINE_multi_string(
    "custom_delegate", [], "NAME[:EXPECTED] --flag=value ..., EXPECTED being its name in the log."
)
flags.DEFINE_multi_string("extra_flag", [], "Passed to every run as it is: --name=value.")
flags.DEFINE_integer(
    "repetitions", None, "Processes for each combination, at least; 5, or 10 with --compare."
)
flags.DEFINE_integer(
    "max_repetitions", 20, "... at most, while --max_spread or a comparison asks for more."
)
flags.DEFINE_float(
    "max_spread", 0.05, "How far the 95% interval of the typical time may reach to either side."
)
flags.DEFINE_string("device", "imported", "What to call the device of logs that are imported.")
flags.DEFINE_bool("ab", False, "Run two files in turns and compare them pair by pair.")
flags.DEFINE_multi_string("b_binary", [], "With --ab: B's program; A's is the one given as ever.")
flags.DEFINE_multi_string("b_flag", [], "With --ab: a flag that B has beside or instead of A's.")
flags.DEFINE_string("verify", None, "Images (or a .npy of inputs) whose outputs must be right.")
flags.DEFINE_integer("verify_images", 16, "Images of --verify at most.")
flags.DEFINE_float("verify_decibels", 10.0, "How far errors must lie below what images differ by.")
flags.DEFINE_float("verify_top1", 0.9, "Least share of images of the same class.")
flags.DEFINE_multi_string(
    "run_model", [], "LiteRT's run_model, which shows outputs, for --verify with LiteRT 2.x."
)
flags.DEFINE_bool("cold_start", False, "Also time starts with an empty page cache, each once.")
flags.DEFINE_enum(
    "preset", None, list(PRESETS), "mlperf_mobile: 60 seconds and 1,024 inferences at least."
)
flags.DEFINE_integer("warmup_runs", 5, "Inferences before measuring, at least.")
flags.DEFINE_float("warmup_seconds", 0.5, "Seconds before measuring, at least.")
flags.DEFINE_integer("min_runs", 50, "Measured inferences of a process, at least.")
flags.DEFINE_float("min_seconds", 1.0, "Measured seconds of a process, at least.")
flags.DEFINE_float("max_seconds", 60.0, "... and at most.")
flags.DEFINE_string("cores", "big", "Pin to the 'big' cores, 'all', or a hexadecimal mask.")
flags.DEFINE_integer("max_thermal_status", 0, "Android's thermal status above which to wait.")
flags.DEFINE_float("max_battery_c", 40.0, "Battery temperature above which to wait.")
flags.DEFINE_float("max_warming_c", 1.0, "Degrees above the session's first one, likewise.")
flags.DEFINE_bool("fixed_performance", False, "Ask phones for Android's fixed performance mode.")
flags.DEFINE_float("lock_clocks", None, "Rooted phones: lock clocks to this share of the highest.")
flags.DEFINE_float("watch_seconds", 0.5, "Between samples of clocks during runs; 0 for none.")
flags.DEFINE_float("max_load_per_core", 1.5, "Load average for each core, likewise.")
flags.DEFINE_float("cooldown_seconds", 300.0, "How long to wait before a row is marked instead.")
flags.DEFINE_float("poll_seconds", 10.0, "Time between two looks while waiting.")
flags.DEFINE_float("pause_seconds", 0.0, "Pause before every run.")
flags.DEFINE_bool("profile", False, "Also profile by operator, in runs of its own.")
flags.DEFINE_float(
    "minutes", None, "Also run each combination without a pause for so long: sustained speed."
)
flags.DEFINE_float("fps", None, "Inferences a second at most, as a camera asks for them.")
flags.DEFINE_string("output", "runs/benchmark", "Folder of the results.")
flags.DEFINE_bool("resume", False, "Continue the matrix of --output.")
flags.DEFINE_float("reconnect_seconds", 120.0, "How long to wait for a device that went away.")
flags.DEFINE_string("adb", "adb", "The adb program.")
flags.DEFINE_float("adb_timeout", 30.0, "Limit of every adb call that does not run a model.")
flags.DEFINE_bool("keep_files", False, "Leave binary, models and app on the device.")
flags.DEFINE_string("metrics", None, "JSON: model file -> label, family, accuracy, multiply_adds.")
flags.DEFINE_multi_string("compare", [], "Earlier rows.jsonl to compare with; several sessions.")
flags.DEFINE_float(
    "tolerance", None, "Slower by more than this, for certain, is slower; 0.05, or 0.02 with --ab."
)
flags.DEFINE_float("lock_seconds", 60.0, "How long to wait for another harness on a phone.")
flags.DEFINE_integer("seed", 0, "Of the order of runs.")


def cells_of_matrix(models, delegates):
    kinds = ["verification"] if FLAGS.verify else []
    kinds += ["latency"]
    kinds += ["cold_start"] if FLAGS.cold_start else []
    kinds += ["profile"] if FLAGS.profile else []
    kinds += ["sustained"] if FLAGS.minutes else []
    counts = [int(count) for count in FLAGS.threads]
    if min(counts) < 1:
        raise ValueError(f"threads must be positive. Received: threads={FLAGS.threads}")
    unknown = sorted(set(FLAGS.delegates) - set(delegates))
    if unknown:
        raise ValueError(f"delegates must be of {sorted(delegates)}. Received: {unknown}")
    return [
        benchmark.Cell(model, count, delegate, kind, variant)
        for model in models
        for variant in (("A", "B") if has_variants() else ("",))
        for count in counts
        for delegate in FLAGS.delegates
        for kind in kinds
    ]


def has_variants():
    """Whether A and B are programs or flags of one model."""
    return FLAGS.ab and bool(FLAGS.b_binary or FLAGS.b_flag)


def variants_of_flags(binaries, extra):
    """What A and B run with; B's flags take the place of A's of the same name."""
    if not has_variants():
        return {}
    kept = [f for f in extra if not any(f.split("=")[0] == b.split("=")[0] for b in FLAGS.b_flag)]
    return {
        "A": benchmark.Variant(tuple(binaries), tuple(extra)),
        "B": benchmark.Variant(tuple(FLAGS.b_binary or binaries), (*kept, *FLAGS.b_flag)),
    }


def options_of_flags(binaries, delegates, session_id, verification):
    extra = (*FLAGS.extra_flag, *([f"--run_frequency={FLAGS.fps:g}"] if FLAGS.fps else []))
    return benchmark.Options(
        binaries=tuple(binaries),
        protocol=benchmark.Protocol(
            FLAGS.warmup_runs,
            FLAGS.warmup_seconds,
            FLAGS.min_runs,
            FLAGS.min_seconds,
            FLAGS.max_seconds,
        ),
        rules=benchmark.Rules(
            max_thermal_status=FLAGS.max_thermal_status,
            max_battery_c=FLAGS.max_battery_c,
            max_warming_c=FLAGS.max_warming_c,
            max_load_per_core=FLAGS.max_load_per_core,
            cooldown_seconds=FLAGS.cooldown_seconds,
            poll_seconds=FLAGS.poll_seconds,
            pause_seconds=FLAGS.pause_seconds,
        ),
        delegates=delegates,
        cores=FLAGS.cores,
        extra_flags=extra,
        variants=variants_of_flags(binaries, extra),
        verification=verification,
        run_model=tuple(FLAGS.run_model),
        lock_clocks=FLAGS.lock_clocks,
        watch_seconds=FLAGS.watch_seconds,
        fixed_performance=FLAGS.fixed_performance,
        libraries=tuple(FLAGS.library),
        keep_files=FLAGS.keep_files,
        lock_seconds=FLAGS.lock_seconds,
        session=session_id,
    )


def targets_of_flags(delegates, session_id, stop, verification):
    targets = []
    if "host" in FLAGS.target:
        binaries = [FLAGS.host_binary] if FLAGS.host_binary else []
        targets.append(
            benchmark.Host(options_of_flags(binaries, delegates, session_id, verification))
        )
    if "android" in FLAGS.target:
        options = options_of_flags(FLAGS.benchmark_binary, delegates, session_id, verification)
        for serial in find_serials():
            device = benchmark.Adb(serial, program=FLAGS.adb, timeout=FLAGS.adb_timeout)
            if FLAGS.apk or FLAGS.app:
                targets.append(benchmark.AppPhone(device, options, stop, apk=FLAGS.apk))
            else:
                targets.append(benchmark.Phone(device, options, stop))
    return targets


def is_address(serial):
    """Whether adb can connect to it though it does not list it now: HOST:PORT."""
    host, _, port = serial.rpartition(":")
    return bool(host) and port.isdigit() and not any(c.isspace() for c in serial)


def check_local_files():
    """Finds mistakes on this machine before a phone is looked for."""
    if "android" in FLAGS.target:
        for path in (*FLAGS.benchmark_binary, *FLAGS.b_binary, *FLAGS.run_model):
            benchmark.read_executable(path)
        if FLAGS.apk or FLAGS.app:
            for name in ("verify", "b_binary"):
                if FLAGS[name].value:
                    raise ValueError(
                        f"--{name} needs a program, which the app is not: leave out --apk and "
                        f"--app. Received: {name}={FLAGS[name].value!r}"
                    )
        if FLAGS.apk:
            benchmark.check_apk(FLAGS.apk)
        elif not FLAGS.app and not FLAGS.benchmark_binary:
            raise ValueError("Android needs --benchmark_binary, --apk or --app. Received: none")
    if "host" in FLAGS.target and FLAGS.host_binary:
        benchmark.read_executable(FLAGS.host_binary)


def find_serials():
    listed = benchmark.list_devices(FLAGS.adb, FLAGS.adb_timeout)
    if FLAGS.serial:
        known = {device.serial for device in listed}
        wrong = [s for s in FLAGS.serial if s not in known and not is_address(s)]
        if wrong:
            raise ValueError(
                f"--serial must be a device of `adb devices`: {sorted(known)}. Received: {wrong}"
            )
        return list(dict.fromkeys(FLAGS.serial))
    for device in listed:
        if device.state != "device":
            print(f"[{device.serial}] is {device.state}: left out")
    ready = [device.serial for device in listed if device.state == "device"]
    if not ready:
        raise ValueError("No device is ready: see `adb devices`, or name one with --serial")
    return ready


def tolerance(default=0.05):
    return default if FLAGS.tolerance is None else FLAGS.tolerance


def open_question(earlier):
    """Whether more rows of a cell are wanted because the comparison with `earlier` is open."""
    if not earlier:
        return None
    names = {row.configuration for row in earlier}

    def is_open(rows):
        mine = [row for row in rows if row.configuration in names]
        if not mine or mine[0].kind != "latency":
            return False
        same = [row for row in earlier if row.configuration == mine[0].configuration]
        verdicts = [c.verdict for c in benchmark.compare(same, mine, tolerance=tolerance())]
        return verdicts == ["undecided"]

    return is_open


def pairs_of(rows, paths):
    """The comparison of --ab."""
    if has_variants():
        return benchmark.compare_variants(rows, tolerance=tolerance(0.02))
    pair = [pathlib.Path(path).name for path in paths]
    return benchmark.compare_pairs(rows, *pair, tolerance=tolerance(0.02))


def has_pairs(rows, paths):
    """Whether a pair was measured on both sides."""
    try:
        return bool(pairs_of(rows, paths))
    except ValueError:
        return False


def open_pairs(paths):
    """Whether more pairs are wanted, for --ab."""

    def is_open(rows):
        return has_pairs(rows, paths) and any(
            one.verdict == "undecided" for one in pairs_of(rows, paths)
        )

    return is_open if FLAGS.ab else None


def verification_of(models):
    """What --verify holds the targets against: computed here, once for each model."""
    if not FLAGS.verify:
        return None
    return benchmark.verification_of(
        models,
        FLAGS.verify,
        pathlib.Path(FLAGS.output, "verification"),
        FLAGS.verify_images,
        benchmark.Limits(FLAGS.verify_decibels, FLAGS.verify_top1),
    )


def use_preset():
    """Sets the preset's flags, where the user did not."""
    for name, value in PRESETS.get(FLAGS.preset, {}).items():
        if not FLAGS[name].present:
            FLAGS[name].value = value


def measure(paths, earlier):
    """Runs the matrix; whether it is complete, and the paths of the models."""
    wanted = 1 if has_variants() else 2
    if (FLAGS.ab and len(paths) != wanted) or ((FLAGS.b_binary or FLAGS.b_flag) and not FLAGS.ab):
        raise ValueError(
            "--ab compares two files, or one with --b_binary or --b_flag. Received: "
            f"ab={FLAGS.ab}, {len(paths)} files: {paths}"
        )
    least = FLAGS.repetitions or (10 if earlier or FLAGS.ab else 5)
    models = benchmark.find_models(paths)
    check_local_files()
    custom = [benchmark.custom_delegate(text) for text in FLAGS.custom_delegate]
    delegates = {**benchmark.DELEGATES, **{delegate.name: delegate for delegate in custom}}
    verification = verification_of(models)
    stop = threading.Event()
    running = benchmark.Session(
        FLAGS.output,
        cells_of_matrix(models, delegates),
        benchmark.Repetitions(
            least,
            max(least, FLAGS.max_repetitions),
            FLAGS.max_spread,
            FLAGS.minutes or 0.0,
            open_question(earlier),
            open_pairs(paths),
        ),
        resume=FLAGS.resume,
        seed=FLAGS.seed,
        paired=FLAGS.ab,
        reconnect_seconds=FLAGS.reconnect_seconds,
        stop=stop,
    )
    outcomes = running.run(
        targets_of_flags(delegates, benchmark.new_session_id(), stop, verification)
    )
    return all(outcome.complete for outcome in outcomes), {m.name: m.path for m in models}


def import_rows(paths):
    """Appends a row for each log to those of --output; the paths of models are not known."""
    custom = {d.name: d for d in map(benchmark.custom_delegate, FLAGS.custom_delegate)}
    delegates = {**benchmark.DELEGATES, **custom}
    if len(FLAGS.delegates) != 1 or FLAGS.delegates[0] not in delegates:
        raise ValueError(
            f"Logs are imported for one of --delegates={sorted(delegates)}. Received: "
            f"{FLAGS.delegates}"
        )
    rows = benchmark.import_logs(
        paths,
        delegates[FLAGS.delegates[0]],
        device=FLAGS.device,
        session=benchmark.new_session_id(),
    )
    file = benchmark.RowFile(pathlib.Path(FLAGS.output, "rows.jsonl"))
    for row in rows:
        file.append(row)
    return True, {}


def command():
    """What the user typed, for messages: this program, or the installed command."""
    return "benchmark" if __name__ == "__main__" else "keras-hybrid benchmark"


def main(argv):
    complete, model_paths, status, wrong = True, {}, 0, False
    for number in (signal.SIGINT, signal.SIGTERM):  # ends in order, in the background, too
        signal.signal(number, signal.default_int_handler)
    if len(argv) < 2 and not FLAGS.compare:
        raise app.UsageError("Name at least one .tflite file, or --compare two sets of rows.")
    try:
        use_preset()
        earlier = [row for path in FLAGS.compare for row in benchmark.read_rows(path)]
        metrics = benchmark.read_metrics(FLAGS.metrics) if FLAGS.metrics else None
        if len(argv) > 1:
            importing = argv[1] == "import"
            complete, model_paths = (
                import_rows(argv[2:]) if importing else measure(argv[1:], earlier)
            )
        path = pathlib.Path(FLAGS.output, "rows.jsonl")
        rows = benchmark.read_rows(path) if complete or path.exists() else []
        if rows:
            written = benchmark.write_reports(
                FLAGS.output, rows, metrics=metrics, model_paths=model_paths
            )
            print(rows_as_text(rows), *written, sep="\n")
            complete &= all(cell.rows for cell in benchmark.summarize(rows))
            seen = {(row.kind, row.status) for row in benchmark.latest(rows)}
            complete &= not {("verification", "failed"), ("verification", "invalid")} & seen
            wrong = any(status == "wrong_output" for _, status in seen)
        if FLAGS.compare:
            result = benchmark.compare(earlier, rows, tolerance=tolerance())
            tell(result, "comparison.md")
            status = benchmark.comparison_status(result)
        if FLAGS.ab and rows and (has_pairs(rows, argv[1:]) or not wrong):
            result = pairs_of(rows, argv[1:])
            tell(result, "ab.md")
            if any(c.verdict == "undecided" for c in result):
                status = status or benchmark.UNDECIDED
    except (ValueError, OSError) as error:
        print(f"{command()}: {error}", file=sys.stderr)
        sys.exit(2)
    except benchmark.AdbError as error:
        print(f"{command()}: {error}", file=sys.stderr)
        sys.exit(3)
    if wrong:
        sys.exit(WRONG_OUTPUT)
    sys.exit(status if status == 1 or complete else 3)


def tell(comparisons, name):
    """Prints a comparison and keeps it beside the rows."""
    table = benchmark.comparison_table(comparisons)
    pathlib.Path(FLAGS.output, name).write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--table"]:  # a program of its own: it makes the models, with TensorFlow
        table = pathlib.Path(__file__).parents[1] / "comparisons" / "table.py"
        if not table.is_file():
            sys.exit("benchmark: --table is comparisons/table.py, which is in the repository alone")
        table = str(table)
        os.execv(sys.executable, [sys.executable, table, *sys.argv[2:]])
    app.run(main)
