"""Prints what the two programs called `benchmark_model` print, written from their format strings.

Run as `standin.py classic|litert|run_model --graph=...`. No time passes: the latencies are drawn
from the model's contents, threads and delegate. What goes wrong is read from faults.json in the
folder that the environment variable STANDIN_FAULTS names: {"name": how often still (or true)}.
"""

import hashlib
import json
import math
import os
import random
import struct
import sys
import time

COMMON = {
    "num_runs": "50",
    "min_secs": "1",
    "max_secs": "150",
    "run_delay": "-1",
    "num_threads": "-1",
    "warmup_runs": "1",
    "warmup_min_secs": "0.5",
    "report_peak_memory_footprint": "false",
    "graph": "",
    "require_full_delegation": "false",
}
FLAGS = {
    "classic": {
        **COMMON,
        "use_xnnpack": "false",
        "use_gpu": "false",
        "use_nnapi": "false",
        "use_hexagon": "false",
        "hexagon_lib_path": "",
        "external_delegate_path": "",
        "external_delegate_options": "",
        "stable_delegate_settings_file": "",
        "input_layer": "",
        "input_layer_shape": "",
        "input_layer_value_files": "",
        "output_filepath": "",
        "delegate_serialize_dir": "",
        "enable_op_profiling": "false",
        "max_profiling_buffer_entries": "1024",
    },
    "litert": {
        **COMMON,
        "use_cpu": "true",
        "use_gpu": "false",
        "use_npu": "false",
        "use_profiler": "false",
        "gpu_backend": "",
    },
    "run_model": {
        "graph": "",
        "accelerator": "cpu",
        "input_dir": "",
        "print_tensors": "false",
        "compare_numerical": "false",
        "sample_size": "5",
    },
}
LAYERS = (
    ("CONV_2D", "Convolution (NHWC, F32) IGEMM", "stem_conv", 0.15),
    ("CONV_2D", "Convolution (NHWC, F32) GEMM", "stage2_block0_mobile_conv1", 0.3),
    ("DEPTHWISE_CONV_2D", "Convolution (NHWC, F32) DWConv", "stage2_block0_mobile_depthwise", 0.2),
    ("FULLY_CONNECTED", "Fully Connected (NC, F32) GEMM", "stage2_block0_former_feed", 0.1),
    ("BATCH_MATMUL", "Batch Matrix Multiply (NC, F32)", "stage2_block0_mobile_to_former", 0.1),
    ("FULLY_CONNECTED", "Fully Connected (NC, F32) GEMM", "head_logits", 0.1),
    ("SOFTMAX", "Softmax (NC, F32)", "head_softmax", 0.05),
)


def fault(name):
    """Whether the fault is on; counts it down."""
    path = os.path.join(os.environ.get("STANDIN_FAULTS", ""), "faults.json")
    if not os.path.exists(path):
        return None
    with open(path) as file:
        faults = json.load(file)
    value = faults.get(name)
    if value and value is not True and isinstance(value, int):
        faults[name] = value - 1
        with open(path, "w") as file:
            json.dump(faults, file)
    return value


def number(value):
    return f"{value:.6g}"


def count_line(times):
    if not times:
        return "count=0"
    ordered = sorted(times)
    count = len(ordered)

    def nearest(percent):
        return ordered[min(count - 1, count * percent // 100)]

    tail = f" p5={nearest(5)} median={nearest(50)} p95={nearest(95)}"
    if len(set(times)) == 1:
        same = "(all same)" if count > 1 else ""
        return f"count={count} curr={times[-1]}{same}{tail}"
    mean = sum(times) / count
    deviation = math.sqrt(sum((t - mean) ** 2 for t in times) / count)
    return (
        f"count={count} first={times[0]} curr={times[-1]} min={ordered[0]} max={ordered[-1]} "
        f"avg={number(mean)} std={int(deviation)}{tail}"
    )


def say(text):
    sys.stdout.write(f"INFO: {text}\n")


def complain(level, text):
    sys.stdout.flush()
    sys.stderr.write(f"{level}: {text}\n")
    sys.stderr.flush()


def usage(flavour):
    lines = "".join(
        f"\t--{name}={value}\tstring\toptional\n" for name, value in FLAGS[flavour].items()
    )
    complain("ERROR", f"usage: benchmark_model <flags>\nFlags:\n{lines}")
    complain("ERROR", "Benchmarking failed.")
    return 1


def draw(generator, centre, least, seconds):
    """Times in us of a loop of at least so many runs and seconds."""
    times, total = [], 0
    while len(times) < least or total < seconds * 1e6:
        times.append(max(1, round(centre * math.exp(generator.gauss(0, 0.01)))))
        total += times[-1]
    return times


def profile(flavour, mean_us, delegated):
    """The operator table: names of layers, or of the delegate's kernels."""
    say("Profiling Info for Benchmark Initialization:")
    table(
        [
            ("ModifyGraphWithDelegate", "ModifyGraphWithDelegate/0", 2.5),
            ("AllocateTensors", "AllocateTensors/0", 0.25),
        ]
    )
    sys.stdout.write("\n\n")
    if flavour == "classic":
        say("Operator-wise Profiling Info for Regular Benchmark Runs:")
    rows = []
    for place, (kind, kernel, layer, share) in enumerate(LAYERS):
        time_ms = share * mean_us / 1000
        name = f"Delegate/{kernel}:{place}" if delegated else f"[model/{layer}_1/op]:{place}"
        rows.append((kernel if delegated else kind, name, time_ms))
    table(rows)


def table(rows):
    total = sum(time_ms for _, _, time_ms in rows)
    for title in ("Run Order", "Top by Computation Time"):
        sys.stdout.write(f"============================== {title} ==============================\n")
        sys.stdout.write(
            "\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]\n"
        )
        ordered = rows if title == "Run Order" else sorted(rows, key=lambda row: -row[2])
        done = 0.0
        for kind, name, time_ms in ordered:
            done += time_ms
            sys.stdout.write(
                f"\t{kind:>40}\t{time_ms:9.3f}\t{time_ms:9.3f}\t{100 * time_ms / total:7.3f}%\t"
                f"{100 * done / total:7.3f}%\t{0:9.3f}\t{1:9d}\t{name}\n"
            )
        sys.stdout.write("\n")
    sys.stdout.write(f"Number of nodes executed: {len(rows)}\n")
    sys.stdout.write("============================== Summary by node type ==========\n")
    sys.stdout.write(
        "\t[Node type]\t[count]\t[avg ms]\t[avg %]\t[cdf %]\t[mem KB]\t[times called]\n"
    )
    sys.stdout.write("\nTimings (microseconds): count=50 first=1 curr=1 min=1 max=1 avg=1 std=0\n")
    sys.stdout.write(f"Memory (bytes): count=0\n{len(rows)} nodes observed\n\n")


def answer_for(content):
    """What the model computes: what the test has stored for this input; a fault changes it."""
    name = hashlib.sha256(content).hexdigest()
    with open(os.path.join(os.environ["STANDIN_FAULTS"], "answers", name), "rb") as file:
        values = list(memoryview(file.read()).cast("f"))
    if fault("wrong_output"):
        values = values[1:] + values[:1]
    if fault("not_finite"):
        values[0] = float("nan")
    scale = fault("half_precision")
    return [value * (1 + 0.001 * (-1) ** n) for n, value in enumerate(values)] if scale else values


def write_outputs(flags):
    """Reads the input's file and writes the outputs, as the classic program does at its end."""
    with open(flags["input_layer_value_files"].partition(":")[2], "rb") as file:
        content = file.read()
    if fault("no_output"):
        return
    with open(flags["output_filepath"], "wb") as file:
        values = answer_for(content)
        file.write(struct.pack(f"{len(values)}f", *values))


def run_model(arguments):
    """LiteRT's run_model: prints values of inputs and outputs through Abseil's log."""

    def log(text, place="run_model.cc:301"):
        sys.stderr.write(f"I0000 00:00:1766442000.123456    4242 {place}] {text}\n")

    given = [argument.removeprefix("--").partition("=") for argument in arguments]
    flags = {**FLAGS["run_model"], **{name: value for name, _, value in given}}
    with open(os.path.join(flags["input_dir"], "image.raw"), "rb") as file:
        content = file.read()
    if flags["accelerator"] == "gpu":
        sys.stderr.write("INFO: Created LITERT_CL delegate.\n")
        replaced("LITERT_CL", 7, 7, 1)
    pixels = list(memoryview(content).cast("f"))
    for kind, values in (("Input", pixels), ("Output", answer_for(content))):
        log(f"{kind} buffer 0:")
        log(f"  Size: {4 * len(values)} bytes")
        shown = min(len(values), int(flags["sample_size"]))
        log(f"  Beginning {shown} elements:", "tensor_utils.h:201")
        for index in range(shown):
            log(f"    {index}: {number(values[index])}", "tensor_utils.h:193")
        if len(values) > shown:
            log(f"  Ending {shown} elements:", "tensor_utils.h:221")
            for index in range(len(values) - shown, len(values)):
                log(f"    {index}: {number(values[index])}", "tensor_utils.h:193")
    log("Model run completed")
    return 0


def main(flavour, arguments):
    if arguments[:1] == ["--help"]:
        return usage(flavour)
    if flavour == "run_model":
        return run_model(arguments)
    if flavour == "classic":
        say("STARTING!")
    flags = dict(FLAGS[flavour])
    unknown = []
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if equals and name in flags and argument.startswith("--"):
            flags[name] = value
        else:
            unknown.append(argument)
    if unknown:
        sys.stdout.write(f"WARN: Unconsumed cmdline flags: {' '.join(unknown)}\n")
    say("Log parameter values verbosely: [0]")
    say(f"Num threads: [{flags['num_threads']}]")
    say(f"Graph: [{flags['graph']}]")
    if fault("hang"):
        sys.stdout.flush()
        time.sleep(600)
    if fault("garbage"):
        sys.stdout.write("count=5\x00\xff first=1 cu\n\x1b[31mInference timings in us: Init: 1\n")
        return 0
    if fault("crash"):
        say("Initialized session in 1.5ms.")
        sys.stdout.flush()
        os.abort()
    if not os.path.exists(flags["graph"]):
        complain("ERROR", f"Could not open '{flags['graph']}'.")
        complain("ERROR", "Benchmarking failed.")
        return 1
    with open(flags["graph"], "rb") as file:
        content = file.read()
    say(f"Loaded model {flags['graph']}")
    if fault("exit"):
        complain("ERROR", "Failed to allocate tensors!")
        complain("ERROR", "Benchmarking failed.")
        return 1
    fell_back = delegate_lines(flavour, flags)
    centre = 500 + int(hashlib.sha256(content).hexdigest()[:4], 16) % 4000
    centre *= float(os.environ.get("STANDIN_SLOWDOWN", "1"))
    centre /= max(1, int(flags["num_threads"])) ** 0.7
    if flags["use_gpu"] == "true" and not fell_back:
        centre *= 0.5
    generator = random.Random(os.urandom(8))
    init_us = 4000 + generator.randrange(1000)
    say(f"The input model file size (MB): {number(len(content) / 1e6)}")
    say(f"Initialized session in {number(init_us / 1000)}ms.")
    phases = []
    for least, seconds in (
        (flags["warmup_runs"], flags["warmup_min_secs"]),
        (flags["num_runs"], flags["min_secs"]),
    ):
        say(
            f"Running benchmark for at least {least} iterations and at least {seconds} seconds but"
            f" terminate if exceeding {flags['max_secs']} seconds."
        )
        if fault("invoke_error"):
            complain("ERROR", "Node number 3 (FlexErf) failed to invoke.")
        phases.append(draw(generator, centre, int(least), float(seconds)))
        say(count_line(phases[-1]) + "\n")
    warmup, times = phases
    if flavour == "classic":
        classic_end(flags, init_us, warmup, times)
    else:
        litert_end(init_us, warmup, times)
    if "true" in (flags.get("enable_op_profiling"), flags.get("use_profiler")):
        delegated = flags.get("use_xnnpack") != "false"
        profile(flavour, sum(times) / len(times), delegated)
    if flags.get("output_filepath"):
        write_outputs(flags)
    if fault("exit_after_result"):
        return 3
    return 0


def delegate_lines(flavour, flags):
    """Says what was delegated; whether a delegate that was asked for did not come."""
    if flags["use_gpu"] == "true":
        if fault("gpu_unsupported"):
            sys.stdout.write("WARN: GPU acceleration is unsupported on this platform.\n")
        elif fault("gpu_refuses"):
            complain("ERROR", "Following operations are not supported by GPU delegate:")
            complain("ERROR", "BATCH_MATMUL: Operation is not supported.")
            complain(
                "ERROR",
                "No operations will run on the GPU, and all 7 operations will run on the CPU.",
            )
            say("Created 0 GPU delegate kernels.")
        elif fault("gpu_partial"):
            complain("ERROR", "Following operations are not supported by GPU delegate:")
            complain("ERROR", "BATCH_MATMUL: Operation is not supported.")
            complain(
                "ERROR",
                "6 operations will run on the GPU, and the remaining 1 operations will run on the "
                "CPU.",
            )
            replaced("TfLiteGpuDelegateV2", 6, 7, 3)
            return False
        else:
            say("Created TensorFlow Lite delegate for GPU.")
            replaced("TfLiteGpuDelegateV2", 7, 7, 1)
            if flavour == "classic":
                say(
                    "Explicitly applied GPU delegate, and the model graph will be completely "
                    "executed by the delegate."
                )
            return False
        replaced("TfLiteXNNPackDelegate", 7, 7, 1)
        return True
    if flags.get("use_xnnpack") != "false":
        say("Created TensorFlow Lite XNNPACK delegate for CPU.")
        replaced("TfLiteXNNPackDelegate", 7, 7, 1)
    return False


def replaced(delegate, nodes, total, partitions):
    complain(
        "VERBOSE",
        f"Replacing {nodes} out of {total} node(s) with delegate ({delegate}) node, yielding "
        f"{partitions} partitions for subgraph 0.",
    )


def classic_end(flags, init_us, warmup, times):
    say(
        f"Inference timings in us: Init: {init_us}, First inference: {warmup[0]}, "
        f"Warmup (avg): {number(sum(warmup) / len(warmup))}, "
        f"Inference (avg): {number(sum(times) / len(times))}"
    )
    say(
        "Note: as the benchmark tool itself affects memory footprint, the following is only "
        "APPROXIMATE to the actual memory footprint of the model at runtime. Take the information "
        "at your discretion."
    )
    say("Memory footprint delta from the start of the tool (MB): init=6.36328 overall=9.5")
    if flags["report_peak_memory_footprint"] == "true":
        say("Overall peak memory footprint (MB) via periodic monitoring: 12.25")


def litert_end(init_us, warmup, times):
    mean, first = sum(times) / len(times), warmup[0]
    deviation = math.sqrt(sum((t - mean) ** 2 for t in times) / len(times))
    lines = [
        "\n========== BENCHMARK RESULTS ==========",
        f"Model initialization: {init_us / 1000:.2f} ms",
        f"Warmup (first):       {first / 1000:.2f} ms",
        f"Warmup (avg):         {sum(warmup) / len(warmup) / 1000:.2f} ms ({len(warmup)} runs)",
        f"Inference (avg):      {mean / 1000:.2f} ms ({len(times)} runs)",
        f"Inference (min):      {min(times) / 1000:.2f} ms",
        f"Inference (max):      {max(times) / 1000:.2f} ms",
        f"Inference (std):      {deviation / 1000:.2f}",
        "Throughput:           525.55 MB/s",
        "\nMemory Usage:",
        "Init footprint:       8.94 MB",
        "Overall footprint:    11.51 MB",
        "Peak memory:          12.25 MB",
        "======================================\n",
    ]
    for place, line in enumerate(lines):
        complain("INFO", f"[./litert/tools/benchmark_litert_model.h:{81 + place}] {line}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
