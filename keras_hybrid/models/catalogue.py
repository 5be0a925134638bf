"""All builders by name: an explicit table."""

from collections.abc import Callable

import keras

from keras_hybrid.models import iformer, mobile_former, mobilevit
from keras_hybrid.models.builder import suggestion

MODELS: dict[str, Callable] = {
    "MobileFormer26M": mobile_former.MobileFormer26M,
    "MobileFormer52M": mobile_former.MobileFormer52M,
    "MobileFormer96M": mobile_former.MobileFormer96M,
    "MobileFormer151M": mobile_former.MobileFormer151M,
    "MobileFormer214M": mobile_former.MobileFormer214M,
    "MobileFormer294M": mobile_former.MobileFormer294M,
    "MobileFormer508M": mobile_former.MobileFormer508M,
    "MobileViTXXS": mobilevit.MobileViTXXS,
    "MobileViTXS": mobilevit.MobileViTXS,
    "MobileViTS": mobilevit.MobileViTS,
    "IFormerT": iformer.IFormerT,
    "IFormerS": iformer.IFormerS,
    "IFormerM": iformer.IFormerM,
    "IFormerL": iformer.IFormerL,
    "IFormerL2": iformer.IFormerL2,
    "IFormerH": iformer.IFormerH,
}


def list_models() -> list[str]:
    """Names of all builders, family by family, smallest first."""
    return list(MODELS)


def builder_family(name: str) -> str:
    """ "mobile_former", "mobilevit" or "iformer", of a builder's name.

    Raises:
        ValueError: for an unknown name.
    """
    return _builder(name).__module__.rpartition(".")[2]


def build_model(name: str, **options) -> keras.Model:
    """Builds a model by its builder's name.

    Args:
        name: one of `list_models()`.
        **options: the builder's arguments.

    Raises:
        ValueError: for an unknown name, with the nearest known one, or an impossible option.
    """
    return _builder(name)(**options)


def _builder(name):
    if name not in MODELS:
        raise ValueError(
            f"There is no model of that name.{suggestion(str(name), MODELS)} "
            f"`keras_hybrid.list_models()` lists all. Received: name={name!r}"
        )
    return MODELS[name]
