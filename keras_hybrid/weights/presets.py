"""The published checkpoints by name."""

from keras_hybrid.did_you_mean import suggestion
from keras_hybrid.weights.families import families
from keras_hybrid.weights.family import Preset


def list_weights(model: str | None = None) -> list[Preset]:
    """The published checkpoints that `weights=` knows by name.

    Args:
        model: name of a builder, for its checkpoints only.

    Raises:
        ValueError: for a builder without any.
    """
    every = [preset for family in families() for preset in (*family.presets, *family.dense_presets)]
    found = [preset for preset in every if model in (None, preset.model)]
    if not found:
        hint = suggestion(str(model), {preset.model for preset in every})
        raise ValueError(f"No published weights are known for it.{hint} Received: model={model!r}")
    return found


def find_preset(model: str, tag: str) -> Preset:
    """The preset of a builder's name and a tag.

    Raises:
        ValueError: for a tag that the builder does not have; the message lists those it has.
    """
    meant = _aliases().get((model, tag), tag)
    presets = {preset.tag: preset for preset in list_weights(model)}
    if meant not in presets:
        raise ValueError(
            f"{model} has the published weights {list(presets)}.{suggestion(tag, presets)} "
            f"Received: weights={tag!r}"
        )
    return presets[meant]


def is_tag(weights: object) -> bool:
    """Whether `weights` names published weights and is no path."""
    return isinstance(weights, str) and weights in known_tags()


def known_tags() -> list[str]:
    """The tags that some builder has, without repetition."""
    tags = [preset.tag for preset in list_weights()]
    return list(dict.fromkeys([*tags, *(tag for _, tag in _aliases())]))


def _aliases():
    return {names: tag for family in families() for names, tag in family.aliases.items()}
