"""The families that the package knows: its own three, and those that a user registers."""

import keras

from keras_hybrid.did_you_mean import suggestion
from keras_hybrid.weights.families import iformer, mobile_former, mobilevit
from keras_hybrid.weights.family import Family, all_layers

# By name, in the order in which lists show them. `register` alone adds to it.
_FAMILIES = {
    family.name: family for family in (mobile_former.FAMILY, mobilevit.FAMILY, iformer.FAMILY)
}


def register(family: Family) -> None:
    """Makes a family known: its builders, presets, key maps and preprocessing are then found.

    Args:
        family: one whose names no registered family has.

    Raises:
        ValueError: for a name or a builder that another family has.
    """
    known = _FAMILIES.get(family.name)
    if known == family:
        return
    builders = {name for other in _FAMILIES.values() for name in other.builders}
    if known or builders & set(family.builders):
        raise ValueError(
            "A family of that name, or one of its builders, is registered already. "
            f"Received: family {family.name!r} with the builders {family.builders}"
        )
    _FAMILIES[family.name] = family


def families() -> tuple[Family, ...]:
    """All families, the package's own first."""
    return tuple(_FAMILIES.values())


def family_named(name: str) -> Family:
    """A family by its name.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    if name not in _FAMILIES:
        hint = suggestion(name, _FAMILIES)
        raise ValueError(f"There is no family of that name.{hint} Received: {name!r}")
    return _FAMILIES[name]


def family_of(model: keras.Model) -> Family:
    """The family of a built or loaded model, by its layers' names; nested models count, too.

    Raises:
        ValueError: for a model of no family.
    """
    names = {layer.name for layer in all_layers(model)}
    for family in families():
        if names.intersection(family.own_layers):
            return family
    raise ValueError(
        "The model is none of this package's: its layers have none of the families' names. "
        f"Received: model={model.name}"
    )
