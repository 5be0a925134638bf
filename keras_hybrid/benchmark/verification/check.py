"""One verification of a target: runs every case there and judges what came out."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from keras_hybrid.benchmark.plan import Model
from keras_hybrid.benchmark.targets.delegates import Delegate
from keras_hybrid.benchmark.verdict import judge
from keras_hybrid.benchmark.verification.agreement import Limits, compare_outputs
from keras_hybrid.benchmark.verification.cases import MOST_IMAGES, Cases, prepare_cases


@dataclasses.dataclass(frozen=True)
class Verification:
    """What is verified: the cases of each file, by its checksum, and when outputs are wrong."""

    cases: dict[str, Cases]
    limits: Limits = Limits()


def verification_of(
    models: Iterable[Model], images, folder, limit: int = MOST_IMAGES, limits: Limits | None = None
) -> Verification:
    """Computes what the targets are held against, once for each model.

    Args:
        images: a folder of images, or a .npy of inputs.
        folder: gets the inputs and the expected outputs.
        limit: at most so many images.
        limits: when outputs are wrong.

    Raises:
        ValueError: if there are no images, or they do not fit a model.
    """
    if not Path(images).exists():
        raise ValueError(
            f"--verify must be a folder of images or a .npy of inputs. Received: {str(images)!r}"
        )
    return Verification(
        {
            model.sha256: prepare_cases(model.path, images, Path(folder, model.sha256[:16]), limit)
            for model in models
        },
        limits or Limits(),
    )


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of one case.

    Attributes:
        log: of the program; None where there is none, as with the interpreter of this process.
        output: the bytes of all outputs; None if there are none.
        exit_status: of the program, None if it is not known.
        failure: why there is no output, in words.
        timed: whether the log is one of a benchmark, with times.
    """

    output: bytes | None
    log: str | None = None
    exit_status: int | None = 0
    failure: str = ""
    timed: bool = True


def verify(
    cases: Cases,
    limits: Limits,
    delegate: Delegate,
    num_threads: int,
    run_case: Callable[[int], Answer],
) -> tuple[dict, str]:
    """Runs the cases and gives fields of a `Row` ("status", "notes", "agreement", ...) and logs.

    Args:
        run_case: runs the case of that number on the target.
    """
    fields, logs, outputs = {"status": "ok", "notes": ()}, [], []
    for number in range(len(cases.inputs)):
        answer = run_case(number)
        if answer.log is not None:
            logs.append(f"# image {number}\n{answer.log}")
            judged = judge(
                answer.log,
                exit_status=answer.exit_status,
                delegate=delegate,
                num_threads=num_threads,
                timed=answer.timed,
            )
            kept = ("status", "notes", "delegated_nodes", "total_nodes", "partitions")
            fields = {name: judged[name] for name in kept if name in judged}
        log = "\n".join(logs)
        if answer.output is None or fields["status"] not in ("ok", "fell_back"):
            if fields["status"] in ("ok", "fell_back"):
                fields["status"] = "failed"
            reason = answer.failure or f"image {number} has no output"
            return {**fields, "notes": (reason, *fields["notes"])}, log
        outputs.append(answer.output)
    log = "\n".join(logs)
    try:
        found = compare_outputs(
            cases.outputs, [path.read_bytes() for path in cases.expected], outputs
        )
    except ValueError as error:
        return {**fields, "status": "failed", "notes": (str(error), *fields["notes"])}, log
    objections, doubt = limits.objections(found), limits.doubt(found)
    if objections and fields["status"] == "ok":
        fields["status"] = "failed" if doubt else "wrong_output"
    fields["notes"] = (*objections, *([doubt] if doubt else []), *fields["notes"])
    return {**fields, "agreement": dataclasses.asdict(found)}, log
