"""What a log says went wrong, and which delegate took which part of the graph."""

import dataclasses
import re

from keras_hybrid.benchmark.logs.lines import Line

_LEAST_LENGTH = 6  # "Killed"
# Failures in the words of builds and routes that put no `ERROR:` before them.
_FAILURE = re.compile(
    r"Benchmarking failed|Failed to (?!get the input model file size)|Could not open '"
    r"|failed to (?:prepare|invoke)\b|Encountered unresolved custom op|Didn't find op for builtin"
    r"|not supported by this interpreter|Disallowed CPU fallback detected"
    r"|\bwas not true\.|Couldn't get node and registration|No selector for "
    r"|Attempting to use a delegate that only supports static-sized"
    r"|Please specify the name of your TF Lite input file|Required flag not provided"
    r"|Hint fully delegated to single delegate is set|Falling back to OpenGL"
    r"|TfLite\w{0,40}Delegate\w{0,40} (?:Init|Prepare|Invoke):|RuntimeError: |Run failed"
)
_CRASH = re.compile(
    r"Segmentation fault|Aborted|Killed|Bus error|Illegal instruction|CANNOT LINK EXECUTABLE"
    r"|terminate called|terminating|libc\+\+abi|Fatal signal|FATAL EXCEPTION|Check failed"
    r"|Traceback \(most recent call last\)"
)
_SHELL = re.compile(
    r".*: (?:inaccessible or )?not found$|.*: [Pp]ermission denied$|.*[Nn]o such file or directory$"
    r"|.*not executable: .*|.*cannot execute.*|.*[Ee]xec format error.*|.*No space left on device.*"
    r"|error: .*"
)
_UNSUPPORTED = re.compile(
    r"(?:Following|Next) operations are not supported by (?:the )?(.+?) delegate:?"
)
_UNSUPPORTED_END = re.compile(
    r"(?:First )?(\d+|No) operations will run on the (\w+),? and (?:the remaining|all) (\d{1,12}) "
    r"(?:operations (?:will )?(?:run )?)?(?:will run )?on the CPU\.?"
)
_UNSUPPORTED_ITEM = re.compile(
    r"[A-Z][A-Z0-9_]*(?: [\w./-]+)?:.*|\w+: .*(?:not supported|isn't|must).*"
)
_REPLACING = re.compile(
    r"Replacing (\d{1,12})(?: out of (\d{1,12}))? node\(s\) with delegate \(([^)]*)\) node, "
    r"yielding (\d{1,12}) partitions(?: for (?:the whole graph|subgraph (\d{1,12})(?: \(.*\))?))?\."
)
# SimpleDelegateInterface's line: the only count at level INFO, of QNN, Ethos-U, Hexagon and others.
_ANNOUNCED = re.compile(
    r"(.+?) delegate: (\d{1,12}) nodes delegated out of (\d{1,12}) nodes with (\d{1,12}) "
    r"partitions\.?"
)
# A delegate that came to be, whether or not it took anything.
_CREATED = re.compile(
    r"Created TensorFlow Lite (?:XNNPACK )?delegate for (.+?)\.?|(\S.{0,60}?) delegate created\."
    r"|Initialized (OpenCL|OpenGL)-based API\.?"
)
_EXPLICIT = re.compile(
    r"Explicitly applied (.+?) delegate, and the model graph will be (completely|partially) "
    r"executed by the delegate(?: w/ (\d{1,12}) delegate kernels)?\."
)
_NOT_EXECUTED = re.compile(
    r"Though (.+?) delegate is explicitly applied, the model graph will not be executed by the "
    r"delegate\."
)
_FALLBACK = re.compile(
    r"(?:GPU|NNAPI|NPU|.*) acceleration is unsupported on this platform\.|Created 0 GPU delegate "
    r"kernels\.|Though .* will not be executed by the delegate\.|No operations will run on the .*"
    r"|Falling back to OpenGL|Failed to apply .* delegate\."
)


@dataclasses.dataclass(frozen=True)
class Delegation:
    """What a delegate took: `delegated` operators of `total` (None in old builds).

    `partitions` counts all pieces of the graph, delegated and not; None where the log counts the
    delegated ones alone, `kernels`.
    """

    delegate: str
    delegated: int
    total: int | None
    partitions: int | None
    subgraph: int = 0
    kernels: int | None = None


@dataclasses.dataclass(frozen=True)
class Applied:
    """One `Explicitly applied ..` line; `extent` is "completely", "partially" or "not"."""

    delegate: str
    extent: str
    kernels: int | None = None


@dataclasses.dataclass(frozen=True)
class Failures:
    """Findings in the order of the log.

    Args:
        errors: lines that make the numbers beside them worthless.
        warnings: other lines at warning level.
        fallbacks: lines that say that a delegate did not run.
        created: delegates that the log says came to be, in its words.
        unsupported: operators that a delegate left to the CPU, with its reasons.
    """

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    fallbacks: tuple[str, ...]
    unsupported: tuple[str, ...]
    delegations: tuple[Delegation, ...]
    applied: tuple[Applied, ...]
    created: tuple[str, ...] = ()


def find_failures(lines: list[Line]) -> Failures:
    """Collects errors, warnings and delegation of a log.

    The list of operators that the GPU leaves to the CPU is printed at error level; it is no
    error if some operators do run on the GPU.
    """
    errors, warnings, fallbacks, unsupported = [], [], [], []
    delegations, applied, announced, created = [], [], [], []
    block = None
    for line in lines:
        text = line.text.strip()
        if len(text) < _LEAST_LENGTH and line.level != "error" and block is None:
            continue
        if match := _UNSUPPORTED_END.fullmatch(text):
            if match[1] in ("No", "0"):
                fallbacks.append(text)
                errors += block or []
            elif block:
                unsupported += block[1:]
            block = None
            continue
        if block is not None:
            if _UNSUPPORTED_ITEM.fullmatch(text) and not _FAILURE.match(text):
                block.append(text)
                continue
            errors += block
            block = None
        if _UNSUPPORTED.fullmatch(text):
            block = [text]
            continue
        if _FALLBACK.fullmatch(text):
            fallbacks.append(text)
        if match := _REPLACING.fullmatch(text):
            delegated, total, name, partitions, subgraph = match.groups()
            delegations.append(
                Delegation(
                    name,
                    int(delegated),
                    None if total is None else int(total),
                    int(partitions),
                    int(subgraph or 0),
                )
            )
        elif match := _ANNOUNCED.fullmatch(text):
            name, delegated, total, kernels = match.groups()
            announced.append(
                Delegation(name, int(delegated), int(total), None, kernels=int(kernels))
            )
        elif match := _EXPLICIT.fullmatch(text):
            applied.append(Applied(match[1], match[2], match[3] and int(match[3])))
        elif match := _NOT_EXECUTED.fullmatch(text):
            applied.append(Applied(match[1], "not"))
        elif match := _CREATED.fullmatch(text):
            created.append(next(filter(None, match.groups())))
        elif _is_error(line, text):
            errors.append(text)
        elif line.level == "warning":
            warnings.append(text)
    if block:
        errors += block
    replaced = {delegation.delegate for delegation in delegations}
    delegations += [a for a in announced if a.delegate not in replaced]
    return Failures(
        tuple(errors),
        tuple(warnings),
        tuple(fallbacks),
        tuple(unsupported),
        tuple(delegations),
        tuple(applied),
        tuple(dict.fromkeys(created)),
    )


def _is_error(line, text):
    if line.level == "error":
        return not text.startswith("usage:")
    if line.level is None:
        if text.startswith("└"):  # continues the warning above it
            return False
        return bool(_FAILURE.search(text) or _CRASH.match(text) or _SHELL.fullmatch(text))
    if line.level in ("info", "verbose"):
        return bool(re.search(r"failed to (?:prepare|invoke)\b|^Benchmarking failed", text))
    return False
