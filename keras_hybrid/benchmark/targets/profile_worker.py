"""The process that profiles one model on this machine with LiteRT's own profiler.

LiteRT's wheel has the profiler in its library and no Python function for it: the C interface is
called through ctypes. Prints the profiler's table, which is the one that LiteRT 2.x'
`benchmark_model` prints, after a line with the time of an inference as this process measured it.
Run by `keras_hybrid.benchmark.targets.host_profile`; imports nothing but LiteRT's library.
"""

import ctypes
import importlib.util
import json
import sys
import time
from pathlib import Path

MARKER = "keras_hybrid_profile_result:"
_HANDLE = ctypes.c_void_p
_DELETER = ctypes.CFUNCTYPE(None, _HANDLE)
RUNS_IN_TURN = 5
_CPU = 1  # kLiteRtHwAcceleratorCpu


class LiteRt:
    """LiteRT's C functions; each call's status is checked."""

    def __init__(self):
        package = importlib.util.find_spec("ai_edge_litert")
        if package is None or not package.submodule_search_locations:
            raise RuntimeError("LiteRT is not installed: pip install ai-edge-litert")
        (path,) = sorted(Path(package.submodule_search_locations[0]).glob("libLiteRt.*"))[:1]
        self.library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)

    def __call__(self, name, *arguments):
        function = getattr(self.library, name, None)
        if function is None:
            raise RuntimeError(f"this LiteRT has no {name}: version 2.1 or later is needed")
        function.restype = ctypes.c_int
        status = function(*arguments)
        if status:
            raise RuntimeError(f"{name} failed with status {status}")

    def make(self, name, *arguments):
        """A handle that a function gives through its last argument."""
        handle = _HANDLE()
        self(name, *arguments, ctypes.byref(handle))
        return handle


def compile_model(litert, path, num_threads):
    """The environment, the model and its compiled form for the CPU, profiler on."""
    environment = litert.make("LiteRtCreateEnvironment", ctypes.c_int(0), None)
    model = litert.make("LiteRtCreateModelFromFile", environment, path.encode())
    options = litert.make("LiteRtCreateOptions")
    litert("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(_CPU))
    keep = _DELETER(lambda data: None)
    for name, text in (
        (b"runtime_options_string", b"enable_profiling = true\n"),
        (b"xnnpack", b"num_threads = %d\n" % num_threads),
    ):
        data = ctypes.create_string_buffer(text)
        LIVING.extend([data, keep])
        opaque = litert.make("LiteRtCreateOpaqueOptions", name, ctypes.cast(data, _HANDLE), keep)
        litert("LiteRtAddOpaqueOptions", options, opaque)
    compiled = litert.make("LiteRtCreateCompiledModel", environment, model, options)
    return environment, model, compiled


LIVING: list = []  # what the library holds pointers to


def make_buffers(litert, environment, model, compiled, kind, signature):
    count = ctypes.c_size_t()
    litert(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(count))
    buffers = (_HANDLE * count.value)()
    for index in range(count.value):
        tensor = litert.make(
            f"LiteRtGetSignature{kind}TensorByIndex", signature, ctypes.c_size_t(index)
        )
        tensor_type = ctypes.create_string_buffer(512)
        litert("LiteRtGetRankedTensorType", tensor, tensor_type)
        needs = litert.make(
            f"LiteRtGetCompiledModel{kind}BufferRequirements",
            compiled,
            ctypes.c_size_t(0),
            ctypes.c_size_t(index),
        )
        buffers[index] = litert.make(
            "LiteRtCreateManagedTensorBufferFromRequirements", environment, tensor_type, needs
        )
        LIVING.append(tensor_type)
    return buffers


def profile(request):
    """The profiler's table, and the mean times of an inference in ms without it and with it.

    Both are measured in turns, so that other work of the machine falls on them alike.
    """
    litert = LiteRt()
    environment, model, compiled = compile_model(
        litert, request["model_path"], request["num_threads"]
    )
    signature = litert.make("LiteRtGetModelSignature", model, ctypes.c_size_t(0))
    inputs, outputs = (
        make_buffers(litert, environment, model, compiled, kind, signature)
        for kind in ("Input", "Output")
    )

    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            litert(
                "LiteRtRunCompiledModel",
                compiled,
                ctypes.c_size_t(0),
                ctypes.c_size_t(len(inputs)),
                inputs,
                ctypes.c_size_t(len(outputs)),
                outputs,
            )
        return (time.perf_counter() - start) * 1000 / count

    profiler = litert.make("LiteRtCompiledModelGetProfiler", compiled)
    run(request["warmup_runs"])
    bare, profiled, runs = [], [], 0
    while runs < request["runs"]:
        bare.append(run(RUNS_IN_TURN))
        litert("LiteRtResetProfiler", profiler)
        litert("LiteRtStartProfiler", profiler)
        profiled.append(run(RUNS_IN_TURN))
        litert("LiteRtStopProfiler", profiler)
        text = ctypes.c_char_p()
        # Each call adds the events since the last one to the table.
        litert("LiteRtGetProfileSummary", profiler, compiled, ctypes.byref(text))
        runs += RUNS_IN_TURN
    table = (text.value or b"").decode("utf-8", "replace")
    bare_ms, profiled_ms = (sum(times) / len(times) for times in (bare, profiled))
    return {"bare_ms": bare_ms, "profiled_ms": profiled_ms, "runs": runs}, table


def main():
    result, table = profile(json.loads(sys.argv[1]))
    print(table)
    print(MARKER + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
