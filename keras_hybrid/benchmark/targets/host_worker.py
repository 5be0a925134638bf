"""The process that times one model on this machine: prints one JSON object and ends.

A process of its own, so that initialisation is cold and the memory is the model's. Run by
`keras_hybrid.benchmark.targets.host`; imports next to nothing but the interpreter and NumPy.
"""

import json
import sys
import time

from keras_hybrid.benchmark.workers import ANSWER
from keras_hybrid.litert import delegation


def memory_mb(field):
    """The figure `field` of /proc/self/status in MB, or None where there is no such file."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


def random_inputs(interpreter):
    """Fills the inputs as `benchmark_model` does: noise over a range that fits the type."""
    import numpy as np

    generator = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        shape, dtype = details["shape"], details["dtype"]
        if np.issubdtype(dtype, np.floating):
            value = generator.uniform(-1.0, 1.0, shape).astype(dtype)
        elif np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            value = generator.integers(
                max(limits.min, -128), min(limits.max, 127), shape, dtype=dtype, endpoint=True
            )
        else:
            value = np.zeros(shape, dtype)
        interpreter.set_tensor(details["index"], value)


def median_spread(times):
    """Half the width of the median's 95% confidence interval, relative to the median."""
    ordered = sorted(times)
    count = len(ordered)
    margin = 0.98 * count**0.5
    low = ordered[max(0, int(count / 2 - margin))]
    high = ordered[min(count - 1, int(count / 2 + margin))]
    return (high - low) / 2 / ordered[count // 2]


def measure(request):
    """Times the model of `request` (the arguments of `benchmark_host`) and returns its figures."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {
        "cpu": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    }[request["delegate"]]
    before_mb = memory_mb("VmRSS")
    start = time.perf_counter()
    interpreter = Interpreter(
        model_path=request["model_path"],
        num_threads=request["num_threads"],
        experimental_op_resolver_type=resolver,
    )
    interpreter.allocate_tensors()
    init_ms = (time.perf_counter() - start) * 1000
    init_mb = memory_mb("VmRSS")
    random_inputs(interpreter)

    def timed_call():
        start = time.perf_counter()
        interpreter.invoke()
        return (time.perf_counter() - start) * 1000

    warmup = []
    start = time.perf_counter()
    while (
        len(warmup) < max(1, request["warmup_runs"])
        or time.perf_counter() - start < request["warmup_seconds"]
    ):
        warmup.append(timed_call())
    times = []
    start = time.perf_counter()
    limit_reached = False
    while True:
        times.append(timed_call())
        elapsed = time.perf_counter() - start
        enough = len(times) >= request["min_runs"] and elapsed >= request["min_seconds"]
        limit_reached = elapsed >= request["max_seconds"]
        settled = request["min_runs"] == 1 or (
            len(times) % 10 == 0 and median_spread(times) <= request["max_spread"]
        )
        if limit_reached or (enough and settled):
            break
    found = delegation(interpreter)
    overall_mb = memory_mb("VmRSS")
    known = None not in (before_mb, init_mb, overall_mb)
    return {
        "init_ms": init_ms,
        "warmup_times": warmup,
        "times": times,
        "spread": median_spread(times),
        "init_memory_mb": init_mb - before_mb if known else None,
        "overall_memory_mb": overall_mb - before_mb if known else None,
        "delegated_nodes": found and found.taken,
        "total_nodes": found and found.total,
        "delegate_kernels": found and found.kernels,
    }


def main():
    print(ANSWER + json.dumps(measure(json.loads(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    main()
