"""Numbers that a user typed: what they may be, said with the flag's name."""

import argparse
import math
from collections.abc import Callable


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number in a range, as argparse's `type`."""

    def read(text):
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"a whole number is expected. Received: {text!r}"
            ) from None
        return _checked(value, text, least, most)

    return read


def real(least: float, most: float | None = None) -> Callable[[str], float]:
    """A number in a range, as argparse's `type`."""

    def read(text):
        return _checked(_number(text), text, least, most)

    return read


def positive(text: str) -> float:
    """A number above 0, as argparse's `type`."""
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be positive. Received: {text}")
    return value


def share(text: str) -> float:
    """A share between 0 and 1; a percentage is told how to be one."""
    value = _number(text)
    if 1 < value <= 100:
        raise argparse.ArgumentTypeError(
            f"a share from 0 to 1 is expected, such as {value / 100:g}. Received: {text}"
        )
    return _checked(value, text, 0, 1)


def _number(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"a number is expected. Received: {text!r}")
    return value


def _checked(value, text, least, most):
    if most is not None and not least <= value <= most:
        raise argparse.ArgumentTypeError(f"must be {least} to {most}. Received: {text}")
    if value < least:
        allowed = "positive" if least == 1 else f"{least} or more"
        raise argparse.ArgumentTypeError(f"must be {allowed}. Received: {text}")
    return value
