"""Is the answer of a device right? With the simulated phone, and with the real interpreter."""

import dataclasses
import hashlib

import numpy as np
import pytest
from fake_phone import store_answers, write_benchmark_model

from keras_hybrid.benchmark.health.device_state import Rules
from keras_hybrid.benchmark.plan import Cell, Repetitions, latest
from keras_hybrid.benchmark.results import reports, tables
from keras_hybrid.benchmark.rows import read_rows
from keras_hybrid.benchmark.session import Session, find_models
from keras_hybrid.benchmark.targets.host_target import Host
from keras_hybrid.benchmark.verification.agreement import (
    EXACT_DB,
    Agreement,
    Limits,
    compare_outputs,
)
from keras_hybrid.benchmark.verification.cases import Cases, Tensor, prepare_cases
from keras_hybrid.benchmark.verification.check import Verification
from keras_hybrid.benchmark.verification.on_phone import read_outputs

BUSY = Rules(max_load_per_core=1e9)  # this machine may have other work
SCORES = Tensor("scores", (1, 5), "float32")


def test_cases_hold_what_the_file_takes_and_computes(cases, image_model, photos):
    from PIL import Image, ImageOps

    from keras_hybrid.litert import open_interpreter

    assert (cases.input, cases.outputs) == (Tensor("image", (1, 12, 16, 3), "float32"), (SCORES,))
    assert len(cases.inputs) == len(cases.expected) == 3  # the broken one is left out
    shown = ImageOps.exif_transpose(Image.open(photos / "1.jpg")).resize((16, 12), 2)
    value = np.frombuffer(cases.inputs[1].read_bytes(), "float32").reshape(1, 12, 16, 3)
    assert any(
        np.array_equal(np.frombuffer(path.read_bytes(), "float32"), np.ravel(shown))
        for path in cases.inputs
    )
    interpreter = open_interpreter(image_model, xnnpack=False)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    interpreter.invoke()
    scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert cases.expected[1].read_bytes() == scores.tobytes()


@pytest.mark.parametrize("kind, message", [("shape", r"shape \(2, 3\)"), ("empty", "No image")])
def test_inputs_that_do_not_fit_are_refused(image_model, tmp_path, kind, message):
    source = tmp_path / "inputs.npy"
    if kind == "shape":
        np.save(source, np.zeros((2, 3), "float32"))
    else:
        source = tmp_path / "none"
        source.mkdir()
    with pytest.raises(ValueError, match=message):
        prepare_cases(image_model, source, tmp_path / "cases")


@pytest.fixture
def run_verified(make_phone, run_on, cases, image_model):
    """Runs a verification and two latency runs of one delegate on a phone."""

    def start(delegate="gpu", phone=None, repetitions=2, held_against=cases, **options):
        phone = phone or make_phone()
        store_answers(phone, cases)
        (model,) = find_models([str(image_model)])
        kinds = ("latency", "verification")
        cells = [Cell(model, 1, delegate, kind) for kind in kinds]
        check = Verification({model.sha256: held_against})
        rows, outcome, said = run_on(
            phone, cells=cells, verification=check, repetitions=repetitions, **options
        )
        return phone, rows, outcome, said

    return start


@pytest.mark.large
def test_a_right_delegate_is_verified_first_and_then_timed(run_verified):
    phone, rows, outcome, said = run_verified()
    assert [(row.kind, row.status) for row in rows] == [
        ("verification", "ok"), ("latency", "ok"), ("latency", "ok"),
    ]  # fmt: skip
    found = rows[0].agreement
    assert (found["images"], found["agreeing"], found["decibels"]) == (3, 3, EXACT_DB)
    assert rows[0].median_ms is None and rows[0].delegated_nodes == 7
    assert "200.0 dB" in said and outcome.complete
    assert phone.files() == []


@pytest.mark.large
@pytest.mark.parametrize("fault", ["wrong_output", "not_finite"])
def test_a_delegate_that_computes_something_else_is_never_ok(run_verified, fault, make_phone):
    phone = make_phone()
    phone.set_standin_faults(**{fault: True})
    _, rows, _, _ = run_verified(phone=phone)
    assert {row.status for row in rows} == {"wrong_output"} and len(rows) == 3
    reason = "not finite" if fault == "not_finite" else "dB from this machine's"
    assert any(reason in note for note in rows[0].notes)
    assert "see its verification" in rows[1].notes[0]
    (cell,) = tables.summarize(rows)
    assert cell.median_ms is None and cell.others == "2 wrong_output"


@pytest.mark.large
def test_other_inputs_are_another_verification(run_verified, make_phone, cases):
    phone = make_phone()
    _, rows, _, _ = run_verified(phone=phone, repetitions=1)
    _, rows, _, _ = run_verified(phone=phone, repetitions=1, resume=True)
    assert len(rows) == 2  # nothing left to do
    fewer = dataclasses.replace(
        cases, inputs=cases.inputs[:2], expected=cases.expected[:2], checksum="another"
    )
    _, rows, _, _ = run_verified(phone=phone, repetitions=1, resume=True, held_against=fewer)
    assert [row.agreement["images"] for row in rows[2:]] == [2]


@pytest.mark.large
def test_half_precision_is_right(run_verified, make_phone):
    phone = make_phone()
    phone.set_standin_faults(half_precision=True)
    _, rows, _, _ = run_verified(phone=phone, repetitions=1)
    assert {row.status for row in rows} == {"ok"}
    assert 30 < rows[0].agreement["decibels"] < 70


@pytest.mark.large
def test_a_delegate_that_fell_back_was_not_verified(run_verified, make_phone):
    phone = make_phone()
    phone.set_standin_faults(gpu_unsupported=True)
    _, rows, _, _ = run_verified(phone=phone, repetitions=1)
    assert {row.status for row in rows} == {"fell_back"}


@pytest.mark.large
def test_no_output_is_no_verification(run_verified, make_phone):
    phone = make_phone()
    phone.set_standin_faults(no_output=True)
    _, rows, outcome, _ = run_verified(phone=phone, repetitions=1)
    checks = [row for row in rows if row.kind == "verification"]
    assert {row.status for row in checks} == {"failed"} and "no output" in checks[0].notes[0]


@pytest.mark.large
def test_an_earlier_row_is_not_ok_once_its_delegate_is_found_wrong(
    run_verified, make_phone, run_on, image_model, tmp_path
):
    phone = make_phone()
    (model,) = find_models([str(image_model)])
    before, _, _ = run_on(phone, cells=[Cell(model, 1, "gpu")], repetitions=2)
    assert {row.status for row in before} == {"ok"}
    phone.set_standin_faults(wrong_output=True)
    _, rows, _, _ = run_verified(phone=phone, resume=True)
    assert len(rows) == 3  # nothing is timed again
    assert {row.status for row in latest(rows)} == {"wrong_output"}
    written = reports.write_reports(tmp_path / "report", rows)
    assert "latency.png" not in [path.name for path in written]  # there is none to draw


@pytest.mark.large
def test_run_model_shows_what_litert_computes(run_verified, make_phone, tmp_path):
    programs = [str(write_benchmark_model(tmp_path, name)) for name in ("litert", "run_model")]
    options = {"binaries": programs[:1], "run_model": programs[1:], "repetitions": 1}
    _, rows, _, _ = run_verified(**options)
    assert [row.status for row in rows] == ["ok", "ok"], rows
    assert rows[0].agreement["decibels"] > 100  # six digits are printed
    assert "--accelerator=gpu" in rows[0].command and "--sample_size=5" in rows[0].command
    phone = make_phone("other")
    phone.set_standin_faults(wrong_output=True)
    _, rows, _, _ = run_verified(phone=phone, resume=True, **options)
    assert [row.status for row in rows[2:]] == ["wrong_output", "wrong_output"]
    _, _, outcome, _ = run_verified(phone=phone, resume=True, binaries=programs[:1])
    assert "--run_model" in outcome.message


def test_outputs_of_run_model_are_all_there_or_none():
    cases = Cases(SCORES, (Tensor("x", (1, 2), "int8", 0.5, 3),), (), (), "")
    log = "I0000 00:00:1.5 42 run_model.cc:3] Output buffer 0:\n"
    value = "I0726 12:34:56.789012 42 tensor_utils.h:193]     {}: {}\n"
    assert read_outputs(log + value.format(0, 255) + value.format(1, 7), cases) == b"\xff\x07"
    assert read_outputs(log + value.format(0, 255), cases) is None
    assert read_outputs(log.replace("Output", "Input") + value.format(0, 1), cases) is None
    assert read_outputs("", cases) is None


def test_agreement_of_every_kind_of_output():
    whole = Tensor("classes", (1, 2), "int32")
    int8 = Tensor("map", (1, 2, 1), "int8", 0.5, 10)
    outputs = (SCORES, whole, int8)

    def pack(scores, classes, pixels):
        arrays = ((scores, "float32"), (classes, "int32"), (pixels, "int8"))
        return b"".join(np.array(values, dtype).tobytes() for values, dtype in arrays)

    right = pack([1, 2, 3, 4, 9], [4, 3], [10, 20])
    found = compare_outputs(outputs, [right] * 2, [right, pack([9, 2, 3, 4, 1], [4, 0], [10, 20])])
    assert (found.images, found.agreeing, found.equal) == (2, 1, 0.75)
    assert found.decibels == -EXACT_DB  # the two expected outputs are the same
    assert len(Limits().objections(found)) == 3
    with pytest.raises(ValueError, match="30 bytes"):
        compare_outputs(outputs, [right], [right[:-1]])


def pack_scores(*images):
    return [np.array(scores, "float32").tobytes() for scores in images]


def test_what_all_images_have_in_common_says_nothing():
    """Scores of an untrained network: every image's answer looks like any other's."""
    expected = pack_scores([1000, 1, 0, 0, 0], [1000, 3, 0, 0, 0])
    swapped = compare_outputs([SCORES], expected, expected[::-1])
    # Images differ by 1 on either side of their mean, the answers by 2.
    assert swapped.decibels == pytest.approx(10 * np.log10(2 / 8))
    assert swapped.worst_decibels == pytest.approx(10 * np.log10(1 / 4))
    assert swapped.variation_decibels == pytest.approx(10 * np.log10(2 / 2_000_010))
    assert swapped.agreeing == 2 and Limits().objections(swapped) and Limits().doubt(swapped)
    near = pack_scores([1000, 1.01, 0, 0, 0], [1000, 3, 0, 0, 0])
    right = compare_outputs([SCORES], expected, near)
    assert right.decibels == pytest.approx(10 * np.log10(2 / 1e-4), abs=0.1)
    assert not Limits().objections(right)
    far = compare_outputs([SCORES], expected, pack_scores([0, 1000, 0, 0, 0], [0, 3, 0, 0, 0]))
    assert Limits().objections(far) and Limits().doubt(far) is None  # wrong for any image
    alone = compare_outputs([SCORES], expected[:1], near[:1])
    assert alone.decibels == pytest.approx(10 * np.log10(799_600.8 / 1e-4), abs=0.1)


def test_images_that_cannot_tell_leave_a_verification_undone(verify_here, cases, tmp_path):
    """Three pictures that are nearly one: another's answer is as near as the right one."""
    files = []
    first = np.frombuffer(cases.expected[0].read_bytes(), "float32")
    for number in range(3):
        files.append(tmp_path / f"{number}.bin")
        files[-1].write_bytes((first * (1 + 1e-4 * number)).astype("float32").tobytes())
    alike = dataclasses.replace(
        cases, inputs=(cases.inputs[0],) * 3, expected=(files[1], files[2], files[0])
    )
    checks = [row for row in verify_here(held_against=alike) if row.kind == "verification"]
    assert {row.status for row in checks} == {"failed"}
    assert any("hardly depend on these images" in note for note in checks[0].notes)


def test_limits_say_what_is_wrong():
    assert Limits().objections(Agreement(16, 45.0, 40.0, agreeing=16)) == []
    assert Limits().objections(Agreement(16, float("nan"), 1.0, 16))  # no number is no agreement
    assert "1 of 16" in Limits(0.0).objections(Agreement(16, 45.0, 40.0, agreeing=1))[0]
    with pytest.raises(ValueError, match="least_top1=2"):
        Limits(20.0, 2.0)


@pytest.fixture
def verify_here(cases, image_model, make_options, tmp_path):
    def start(binaries=(), held_against=cases, kinds=("verification", "latency")):
        (model,) = find_models([str(image_model)])
        cells = [Cell(model, 1, "cpu", kind) for kind in kinds]
        check = Verification({model.sha256: held_against})
        options = make_options(binaries=binaries, verification=check, rules=BUSY)
        session = Session(tmp_path / "here", cells, Repetitions(1, 1), say=lambda line: None)
        session.run([Host(options)])
        return read_rows(tmp_path / "here/rows.jsonl")

    return start


def test_the_real_interpreter_is_verified_on_this_machine(verify_here, tmp_path):
    rows = verify_here()
    assert [row.status for row in rows] == ["ok", "ok"]
    assert 100 < rows[0].agreement["decibels"] <= EXACT_DB and rows[0].agreement["agreeing"] == 3
    reports.write_reports(tmp_path, rows)
    text = (tmp_path / "report.md").read_text()
    assert "# Verification" in text and "3 of 3" in text


def test_the_real_interpreter_is_wrong_where_another_images_answer_is_expected(verify_here, cases):
    shuffled = dataclasses.replace(cases, expected=(*cases.expected[1:], cases.expected[0]))
    assert [row.status for row in verify_here(held_against=shuffled)] == ["wrong_output"] * 2


def test_a_program_of_this_machine_writes_its_outputs(verify_here, cases, tmp_path, monkeypatch):
    folder = tmp_path / "standin"
    (folder / "answers").mkdir(parents=True)
    monkeypatch.setenv("STANDIN_FAULTS", str(folder))
    for given, expected in zip(cases.inputs, cases.expected, strict=True):
        name = hashlib.sha256(given.read_bytes()).hexdigest()
        (folder / "answers" / name).write_bytes(expected.read_bytes())
    rows = verify_here(binaries=(str(write_benchmark_model(tmp_path)),))
    assert [row.status for row in rows] == ["ok", "ok"]
    assert rows[0].agreement["decibels"] == EXACT_DB and "{output}" in " ".join(rows[0].command)
