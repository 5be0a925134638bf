"""What a row is called: by the delegate that ran, whatever was asked for."""

import pytest
from benchmark_logs import make_log

from keras_hybrid.benchmark.targets.delegates import DELEGATES, custom_delegate
from keras_hybrid.benchmark.verdict import judge

TIMES = (
    "Inference timings in us: Init: 5, First inference: 6, Warmup (avg): 6, Inference (avg): 5.5\n"
)


def fields_of(log, delegate="cpu"):
    delegate = DELEGATES[delegate] if isinstance(delegate, str) else delegate
    return judge(log, exit_status=0, delegate=delegate, num_threads=1)


@pytest.mark.parametrize(
    "trace",
    [
        "VERBOSE: Replacing 7 out of 7 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding "
        "1 partitions for subgraph 0.",
        "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by "
        "the delegate.",
        "INFO: Created TensorFlow Lite delegate for GPU.",
        "INFO: Created TensorFlow Lite delegate for NNAPI.",
        "INFO: NNAPI delegate created.",
        "INFO: TfLiteQnnDelegate delegate: 5 nodes delegated out of 7 nodes with 2 partitions.",
    ],
)
@pytest.mark.parametrize("delegate", ["cpu", "builtin"])
def test_a_cpu_row_that_ran_elsewhere_is_none(trace, delegate):
    fields = fields_of(f"{trace}\n{TIMES}", delegate)
    assert fields["status"] == "fell_back"
    assert "not asked for" in fields["notes"][0]


def test_what_the_cpu_does_beside_a_delegate_is_no_fall_back():
    xnnpack = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
    flex = "INFO: Created TensorFlow Lite delegate for select TF ops.\n"
    gpu = (
        "INFO: Created TensorFlow Lite delegate for GPU.\n"
        "VERBOSE: Replacing 6 out of 7 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding "
        "3 partitions for subgraph 0.\n"
        "VERBOSE: Replacing 1 out of 3 node(s) with delegate (TfLiteXNNPackDelegate) node, "
        "yielding 3 partitions for subgraph 0.\n"
    )
    assert fields_of(xnnpack + flex + TIMES)["status"] == "ok"
    assert fields_of(xnnpack + gpu + TIMES, "gpu")["status"] == "ok"
    assert fields_of(make_log("litert").replace("[2]", "[1]"))["status"] == "ok"


def test_a_custom_delegate_that_was_not_executed_is_not_ok():
    log = (
        "INFO: Though EXTERNAL delegate is explicitly applied, the model graph will not be "
        "executed by the delegate.\n" + TIMES
    )
    fields = fields_of(log, custom_delegate("dsp --external_delegate_path=/x.so"))
    assert fields["status"] == "fell_back" and "EXTERNAL" in fields["notes"][0]
    assert fields_of(TIMES, custom_delegate("dsp --x=y"))["status"] == "ok"


@pytest.mark.parametrize("taken, status", [(1, "fell_back"), (1000, "fell_back"), (2136, "ok")])
def test_a_delegate_that_took_next_to_nothing_is_not_what_was_timed(taken, status):
    log = (
        f"VERBOSE: Replacing {taken} out of 2168 node(s) with delegate (TfLiteGpuDelegateV2) node, "
        f"yielding 3 partitions for subgraph 0.\n{TIMES}"
    )
    fields = fields_of(log, "gpu")
    assert fields["status"] == status and fields["delegated_nodes"] == taken
    if status == "fell_back":
        assert f"only {taken} of 2168 operators" in fields["notes"][0]


def test_counts_of_several_subgraphs_are_not_added_up():
    line = (
        "VERBOSE: Replacing {} out of {} node(s) with delegate (TfLiteXNNPackDelegate) node, "
        "yielding {} partitions for subgraph {}.\n"
    )
    log = line.format(5, 9, 3, 1) + line.format(60, 70, 7, 0) + TIMES
    fields = fields_of(log)
    assert fields["status"] == "ok"
    counts = (fields["delegated_nodes"], fields["total_nodes"], fields["partitions"])
    assert counts == (60, 70, 7)
    assert "subgraph 1: 5 of 9 operators delegated" in fields["notes"]


def test_the_line_of_simple_delegates_is_counted():
    log = (
        "INFO: TfLiteQnnDelegate delegate: 60 nodes delegated out of 64 nodes with 3 partitions.\n"
    )
    fields = fields_of(log + TIMES, custom_delegate("mine:QNN --external_delegate_path=/x.so"))
    assert fields["status"] == "ok"
    assert (fields["delegated_nodes"], fields["total_nodes"]) == (60, 64)
    assert (fields["partitions"], fields["delegate_kernels"]) == (None, 3)
