"""All builders by name, family by family."""

import importlib
from collections.abc import Callable
from typing import Any

import keras

from keras_hybrid.did_you_mean import suggestion
from keras_hybrid.weights.families import families


def list_models() -> list[str]:
    """Names of all builders, family by family, smallest first."""
    return [name for family in families() for name in family.builders]


def builder_family(name: str) -> str:
    """The name of a builder's family: "mobile_former", "mobilevit" or "iformer".

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    return _family(name).name


def build_model(name: str, **options: Any) -> keras.Model:
    """Builds a model by its builder's name.

    Args:
        name: one of `list_models()`.
        **options: the builder's arguments.

    Raises:
        ValueError: for an unknown name, with the nearest known one, or an impossible option.
    """
    return find_builder(name)(**options)


def find_builder(name: str) -> Callable[..., keras.Model]:
    """A builder by its name.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    family = _family(name)
    module = family.module or f"{__package__}.{family.name}"
    return getattr(importlib.import_module(module), name)


def _family(name):
    for family in families():
        if name in family.builders:
            return family
    raise ValueError(
        f"There is no model of that name.{suggestion(str(name), list_models())} "
        f"`keras_hybrid.list_models()` lists all. Received: name={name!r}"
    )
