"""The numbers of every training run, whatever its task."""

import dataclasses
import itertools
from dataclasses import dataclass

from keras_hybrid.training.recipe.checks import check_common
from keras_hybrid.training.recipe.fields import (
    AT_LEAST_1,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_ABOVE_0,
    SHARE_BELOW_1,
    Limit,
    number,
    one_of,
    optional,
)

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
DECAYED = ("kernels", "tokens", "layer_scales", "all")
MULTISTEP = "multistep"
DECAYS = ("cosine", "poly", MULTISTEP)


@dataclass(frozen=True)
class CommonRecipe:
    """What recipes of all tasks say: model, optimisation, precision, where the weights start.

    Each task has a subclass with its data, augmentation and loss.
    """

    model: str = number(
        "a builder's name, of `keras_hybrid.list_models()`.",
    )
    epochs: int = number(
        "passes over the training split.",
        AT_LEAST_1,
    )
    batch_size: int = number(
        "global batch, over all devices.",
        AT_LEAST_1,
    )
    learning_rate: float = number(
        "its peak, at a batch of `reference_batch_size`.",
        POSITIVE,
    )
    resolution: int = number(
        "height and width of the images, in pixels.",
        AT_LEAST_1,
        224,
    )
    reference_batch_size: int | None = number(
        "the learning rates scale linearly from this global batch to `batch_size`; None "
        "leaves them as they are.",
        optional(POSITIVE),
        None,
    )
    warmup_epochs: float = number(
        "epochs over which the learning rate rises linearly.",
        NOT_NEGATIVE,
        0.0,
    )
    warmup_steps: int = number(
        "the same in optimiser steps, where it is not 0.",
        NOT_NEGATIVE,
        0,
    )
    warmup_learning_rate: float = number(
        "where the warm-up starts.",
        NOT_NEGATIVE,
        0.0,
    )
    final_learning_rate: float = number(
        "where the decay ends.",
        NOT_NEGATIVE,
        0.0,
    )
    cooldown_epochs: float = number(
        "the last epochs, at the final learning rate.",
        NOT_NEGATIVE,
        0.0,
    )
    schedule_unit: str = number(
        "after what the learning rate changes.",
        one_of("step", "epoch"),
        "step",
    )
    cosine_from: str = number(
        "where the decay starts: where the warm-up ends, or at the run's start, of which the "
        "warm-up then hides the beginning.",
        one_of("warmup", "run"),
        "warmup",
    )
    decay: str = number(
        "how the learning rate falls after the warm-up: as half a cosine, or as (1 - t)^0.9, the "
        "poly schedule of segmentation; or multistep, to a tenth after each of `decay_epochs`.",
        one_of(*DECAYS),
        "cosine",
    )
    decay_epochs: tuple[int, ...] = number(
        "after which the learning rate falls to a tenth, with decay=multistep.",
        Limit(
            lambda epochs: all(a < b for a, b in itertools.pairwise((0, *epochs))), "rising epochs"
        ),
        (),
    )
    weight_decay: float = number(
        "of the weights that `decayed` names, by step and learning rate.",
        NOT_NEGATIVE,
        0.0,
    )
    decayed: tuple[str, ...] = number(
        "what weight decay applies to: kernels, tokens, layer_scales, or all, with biases and "
        "norms.",
        Limit(lambda kinds: set(kinds) <= set(DECAYED), f"some of {DECAYED}"),
        ("kernels",),
    )
    clip_norm: float | None = number(
        "largest global norm of the gradient, None for any.",
        optional(POSITIVE),
        None,
    )
    ema_momentum: float | None = number(
        "of the weights' moving average, which is then evaluated and saved; None for no average.",
        optional(SHARE_BELOW_1),
        None,
    )
    ema_warmup: bool = number(
        "whether the average's momentum grows with the updates t, as min(ema_momentum, "
        "(1 + t) / (10 + t)): without it, a short run's average stays near the first weights.",
        default=True,
    )
    drop_path_rate: float = number(
        "of the deepest residual; it ramps up linearly with depth.",
        SHARE_BELOW_1,
        0.0,
    )
    flip_probability: float = number(
        "of a horizontal flip.",
        SHARE,
        0.5,
    )
    accumulation_steps: int = number(
        "batches of `batch_size` / `accumulation_steps` images whose gradients are averaged "
        "into one step of the optimiser.",
        AT_LEAST_1,
        1,
    )
    precision: str = number(
        '"float32", "mixed_bfloat16" or "mixed_float16"; "auto" for mixed_bfloat16 on TPUs and on '
        "GPUs that have it, else float32. Weights are float32 always.",
        one_of(*PRECISIONS),
        "float32",
    )
    jit_compile: bool | None = number(
        "whether XLA compiles the step; None leaves it to Keras.",
        default=None,
    )
    steps_per_execution: int = number(
        "training steps that the device takes in a row, without the host; on JAX each of them is "
        "compiled.",
        AT_LEAST_1,
        1,
    )
    validation_every: int = number(
        "epochs from evaluation to evaluation; the last epoch is evaluated always.",
        AT_LEAST_1,
        1,
    )
    batch_norm_per_device: bool = number(
        "whether batch norms see the images of one device, on mirrored devices; else all of a "
        "training step.",
        default=False,
    )
    seed: int = number(
        "of weights, data order and augmentation.",
        default=0,
    )
    model_options: dict[str, object] = number(
        'more arguments of the builder, such as {"former": False}.',
        default={},
    )
    initial_weights: str | None = number(
        'what training starts from: a tag of published weights such as "imagenet", a '
        "checkpoint's file, or a run's folder; None for random weights. A classifier for "
        "another number of classes is replaced by a new one.",
        default=None,
    )
    layer_decay: float | None = number(
        "what the learning rate is multiplied by with each block away from the head; None for "
        "one learning rate.",
        optional(SHARE_ABOVE_0),
        None,
    )
    head_rate: float = number(
        "what the learning rate of neck and head is multiplied by.",
        POSITIVE,
        1.0,
    )
    frozen_stages: int | None = number(
        "last stage that is not trained, nor those before it; 0 for the stem alone, None for "
        "all trained. The statistics of its batch norms stay, too.",
        optional(Limit(lambda stage: stage >= 0, "a stage, 0 for the stem")),
        None,
    )

    def __post_init__(self):
        check_common(self)

    @property
    def learning_rate_scale(self) -> float:
        """What the global batch multiplies the learning rates by."""
        return self.batch_size / (self.reference_batch_size or self.batch_size)

    @property
    def step_batch_size(self) -> int:
        """Images of one training step: a share of the global batch where gradients accumulate."""
        return self.batch_size // self.accumulation_steps

    @property
    def any_size(self) -> bool:
        """Whether the network that is trained must take images of any size."""
        return False

    @property
    def scale_batch_sizes(self) -> dict[int, int]:
        """Images of a batch of each size, where batches have several."""
        return {}

    def describe(self) -> str:
        """The fields, one a line."""
        fields = dataclasses.asdict(self)
        width = max(map(len, fields))
        return "\n".join(f"{name:<{width}} = {value!r}" for name, value in fields.items())


def as_plain(recipe) -> dict:
    """A recipe's fields as plain types, with tuples as lists: what a JSON file holds."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(recipe).items()
    }
