"""What the published networks are, by the specifications: numbers that tests compare with."""

import functools
import json
from pathlib import Path

from fill import fill, golden_input

import keras_hybrid

GOLDENS = Path(__file__).parents[1] / "goldens"

# name -> (trainable parameters, millions of multiply-adds at the native size)
PUBLISHED = {
    "MobileFormer26M": (3_232_788, 23.6),
    "MobileFormer52M": (3_469_092, 49.3),
    "MobileFormer96M": (4_585_252, 92.0),
    "MobileFormer151M": (7_595_828, 146.3),
    "MobileFormer214M": (9_425_920, 208.4),
    "MobileFormer294M": (11_422_648, 286.7),
    "MobileFormer508M": (13_976_976, 498.5),
    "MobileViTXXS": (1_272_024, 407.4),
    "MobileViTXS": (2_317_848, 1025.9),
    "MobileViTS": (5_578_632, 2000.8),
    "IFormerT": (2_886_456, 530.5),
    "IFormerS": (6_563_368, 1092.4),
    "IFormerM": (8_907_424, 1639.9),
    "IFormerL": (14_779_808, 2826.7),
    "IFormerL2": (24_518_984, 4531.1),
    "IFormerH": (99_596_632, 15529.6),
}

# golden -> (builder, options)
GOLDEN_MODELS = {
    "mobile_former_26m": ("MobileFormer26M", {}),
    "mobile_former_96m": ("MobileFormer96M", {}),
    "mobile_former_294m": ("MobileFormer294M", {}),
    "mobilevit_xxs": ("MobileViTXXS", {}),
    "mobilevit_xxs_r288": ("MobileViTXXS", {}),
    "mobilevit_xs_hf": ("MobileViTXS", {}),
    "iFormer_t": ("IFormerT", {}),
    "iformer_t_timm": ("IFormerT", {}),
    "iFormer_t_layer_scale": ("IFormerT", {"layer_scale": 1e-6}),
    "iFormer_m_distill": ("IFormerM", {"distillation": True}),
}


@functools.cache
def golden(name):
    """A golden's fields."""
    return json.loads((GOLDENS / f"{name}.json").read_text())


def golden_state_dict(name):
    """The published state dict that a golden was computed with."""
    fields = golden(name)
    return {
        key: fill(key, shape, fields["seed"], fields["norm_scale"])
        for key, shape in fields["state_dict"]
    }


def golden_images(name):
    """The input that a golden was computed with: (2, H, W, 3), normalised."""
    return golden_input(golden(name)["resolution"], 2, golden(name)["seed"])


def golden_model(name, **options):
    """The model of a golden with its weights, giving logits."""
    builder, golden_options = GOLDEN_MODELS[name]
    size = golden(name)["resolution"]
    model = keras_hybrid.build_model(
        builder,
        weights=None,
        classifier_activation=None,
        **({"input_shape": (size, size, 3)} | golden_options | options),
    )
    return keras_hybrid.load_checkpoint(model, golden_state_dict(name))
