"""From a log to a row's figures: what was measured, on which delegate, and what it is worth."""

import re

from keras_hybrid.benchmark.figures import FIGURES
from keras_hybrid.benchmark.logs.parser import Report, parse_log
from keras_hybrid.benchmark.targets.delegates import Delegate


def judge(
    log: str,
    *,
    exit_status: int | None,
    delegate: Delegate,
    num_threads: int | None,
    timed: bool = True,
) -> dict:
    """Fields of a `Row` for the output of one run.

    Args:
        log: the whole output.
        exit_status: of the program; None where the route has none (logcat).
        delegate: what was asked for.
        num_threads: what was asked for; a log that names another number is refused. None if it is
            not known.
        timed: whether the log is one of a benchmark; no figures are expected of others.

    Returns:
        `status`, `notes`, the delegation, the profile, and figures if they are worth something.
    """
    report = parse_log(log)
    notes = list(report.errors if timed else report.failures)
    if report.unconsumed_flags:
        notes.append(f"flags that the tool ignored: {' '.join(report.unconsumed_flags)}")
    told = report.parameters.get("Num threads")
    if num_threads and told is not None and told != str(num_threads):
        notes.append(f"the tool was told {told} threads, not {num_threads}")
    fields = _delegation(report, delegate)
    fell_back = fields.pop("fell_back")
    if exit_status:
        fields["status"] = "failed"
        notes.insert(0, f"the program ended with status {exit_status}")
    elif notes and not _only_fallback(report, notes, timed):
        fields["status"] = "invalid"
        notes += [fell_back] if fell_back else []
    elif fell_back:
        fields["status"] = "fell_back"
        notes.insert(0, fell_back)
    else:
        fields["status"] = "ok"
    if report.mean_ms is not None and report.median_ms is None:
        notes.append("this build prints no median: the mean stands for it")
    notes += _other_subgraphs(report, delegate)
    notes += [f"left to the CPU: {operator}" for operator in report.unsupported]
    if fields["status"] in ("ok", "fell_back"):
        fields |= {name: getattr(report, name) for name in FIGURES}
    if report.initialization:
        fields["initialization"] = report.initialization
    if report.profile:
        fields["profile"] = tuple(
            {
                "kind": operator.kind,
                "name": operator.name,
                "ms": operator.average_ms,
                "subgraph": operator.subgraph,
            }
            for operator in report.profile.operators
        )
        if not report.profile.complete:
            notes.append("the operator table is cut")
    fields["notes"] = tuple(dict.fromkeys(notes))
    return fields


def _only_fallback(report: Report, notes, timed):
    """Whether a whole measurement's only errors are those of a delegate that gave up."""
    fallback_errors = set(report.fallbacks)
    return (report.mean_ms is not None or not timed) and set(notes) <= fallback_errors


LEAST_SHARE = 0.5  # of the operators: a delegate that took fewer is not what was timed
# Runs on the CPU beside any delegate: what that leaves, and TensorFlow's own kernels.
_ON_THE_CPU = re.compile(r"XNNPACK|Flex|select TF ops|^CPU", re.IGNORECASE)


def _delegation(report, delegate):
    """Operators and partitions of the delegate that was asked for, and whether it ran."""
    fields = {"fell_back": _ran_elsewhere(report, delegate)}
    if delegate.expected is None:
        refused = [a.delegate for a in report.applied if a.extent == "not"]
        if refused:
            fields["fell_back"] = f"{refused[0]} was not executed"
        elif report.fallbacks and not fields["fell_back"]:
            fields["fell_back"] = report.fallbacks[0]
        return fields
    expected = re.compile(delegate.expected, re.IGNORECASE)
    own = [d for d in report.delegations if expected.search(d.delegate) and d.delegated > 0]
    applied = [a for a in report.applied if expected.search(a.delegate)]
    kernels = [a.kernels for a in applied if a.kernels] + [d.kernels for d in own if d.kernels]
    if own:
        primary = min(own, key=lambda d: d.subgraph)
        fields |= {
            "delegated_nodes": primary.delegated,
            "total_nodes": primary.total,
            "partitions": primary.partitions,
        }
        if primary.total and primary.delegated < LEAST_SHARE * primary.total:
            required = delegate.required and not _ON_THE_CPU.search(delegate.expected)
            fields["fell_back"] = fields["fell_back"] or (
                f"only {primary.delegated} of {primary.total} operators ran on {primary.delegate}"
                if required
                else None
            )
    if kernels:
        fields["delegate_kernels"] = kernels[0]
    if own or any(a.extent != "not" for a in applied):
        if re.search("GPU", delegate.expected) and any(
            "Falling back" in f for f in report.fallbacks
        ):
            fields["fell_back"] = (
                "the GPU delegate fell back to OpenGL: to measure that, ask for it with "
                "--extra_flag=--gpu_backend=gl"
            )
        return fields
    if applied or report.fallbacks or delegate.required:
        reason = next(iter(report.fallbacks), None)
        if reason is None and applied:
            reason = f"{applied[0].delegate} was not applied"
        fields["fell_back"] = (
            fields["fell_back"] or reason or f"the log names no delegate like {delegate.expected}"
        )
    return fields


def _ran_elsewhere(report, delegate):
    """A delegate that took part though it was not asked for, in words; None if there is none.

    XNNPACK and Flex may take what another delegate leaves. A delegate of the user's whose name in
    the log is not known can be any.
    """
    custom = delegate.expected is None and delegate.name != "builtin"
    if custom:
        return None
    wanted = re.compile(delegate.expected or r"(?!)", re.IGNORECASE)

    def is_foreign(name):
        if wanted.search(name):
            return False
        if delegate.name == "builtin" and re.search("XNNPACK", name, re.IGNORECASE):
            return True
        return not _ON_THE_CPU.search(name)

    for found in report.delegations:
        if found.delegated > 0 and is_foreign(found.delegate):
            return f"{found.delegate} took {found.delegated} operators, which was not asked for"
    for found in report.applied:
        if found.extent != "not" and is_foreign(found.delegate):
            return f"{found.delegate} was applied, which was not asked for"
    if delegate.name in ("cpu", "builtin"):
        for name in report.created:
            if is_foreign(name) and name not in ("CPU",):
                return f"a delegate for {name} was created, which was not asked for"
    return None


def _other_subgraphs(report, delegate):
    """Notes on what was delegated beyond the primary graph, whose counts the row has."""
    if delegate.expected is None:
        return []
    expected = re.compile(delegate.expected, re.IGNORECASE)
    own = [d for d in report.delegations if expected.search(d.delegate) and d.delegated > 0]
    primary = min((d.subgraph for d in own), default=0)
    return [
        f"subgraph {d.subgraph}: {d.delegated} of {d.total} operators delegated"
        for d in own
        if d.subgraph != primary
    ]
