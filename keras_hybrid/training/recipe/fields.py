"""What is said of a recipe's field beside its name and type: its range, and its help."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limit:
    """The values that a field may have.

    Attributes:
        holds: whether a value is one of them.
        expected: what they are, as in "must be ...".
    """

    holds: Callable[[Any], bool]
    expected: str


AT_LEAST_1 = Limit(lambda value: value >= 1, "at least 1")
POSITIVE = Limit(lambda value: value > 0, "positive")
NOT_NEGATIVE = Limit(lambda value: value >= 0, "0 or more")
SHARE = Limit(lambda value: 0 <= value <= 1, "in [0, 1]")
SHARE_BELOW_1 = Limit(lambda value: 0 <= value < 1, "in [0, 1)")
SHARE_ABOVE_0 = Limit(lambda value: 0 < value <= 1, "in (0, 1]")
RISING_SHARES = Limit(
    lambda pair: 0 < pair[0] <= pair[1] <= 1,
    "two rising shares in (0, 1]",
)
RISING = Limit(lambda pair: 0 < pair[0] <= pair[1], "two rising positive numbers")


def between(low: float, high: float) -> Limit:
    """From `low` to `high`, both included."""
    return Limit(lambda value: low <= value <= high, f"in [{low}, {high}]")


def one_of(*choices: object) -> Limit:
    """One of a few values."""
    return Limit(lambda value: value in choices, f"one of {choices}")


def optional(limit: Limit) -> Limit:
    """None, or what the limit allows."""
    return Limit(lambda value: value is None or limit.holds(value), f"None or {limit.expected}")


def number(help_text: str, limit: Limit | None = None, default: Any = dataclasses.MISSING) -> Any:
    """A field of a recipe.

    Args:
        help_text: what it is: a sentence that ends a line "name: ...".
        limit: its range; None for any value of its type.
        default: its value where a recipe says nothing; without one, every recipe must give it.
    """
    metadata = {"help": help_text, "limit": limit}
    if isinstance(default, dict):
        return dataclasses.field(
            default_factory=lambda: dict(default), hash=False, metadata=metadata
        )
    return dataclasses.field(default=default, metadata=metadata)


def check_fields(recipe: object):
    """Refuses a value beyond its field's range.

    Raises:
        ValueError: it names the field.
    """
    for field in dataclasses.fields(recipe):
        limit, value = field.metadata.get("limit"), getattr(recipe, field.name)
        if limit is None:
            continue
        try:
            holds = limit.holds(value)
        except TypeError:  # a value of another type
            holds = False
        if not holds:
            raise ValueError(
                f"`{field.name}` must be {limit.expected}. Received: {field.name}={value!r}"
            )


def describe_fields(kind: type) -> str:
    """The fields of a recipe's class with their defaults, ranges and help, as `--help` shows them.

    Args:
        kind: a dataclass whose fields are made by `number`.
    """
    lines = []
    for field in dataclasses.fields(kind):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        limit = field.metadata.get("limit")
        notes = [limit.expected] if limit else []
        notes += [] if default is dataclasses.MISSING else [f"default {default!r}"]
        said = f" ({'; '.join(notes)})" if notes else ""
        lines.append(f"  {field.name}: {field.metadata['help']}{said}")
    return "\n".join(lines)
