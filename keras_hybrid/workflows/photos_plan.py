"""What a folder of photos is trained with: each number fitted to the set, with its reason."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from keras_hybrid.models.catalogue import builder_family
from keras_hybrid.training.recipe.recipe import STRETCH, Recipe
from keras_hybrid.weights.preprocessing import preprocessing_of
from keras_hybrid.weights.presets import is_tag

# Fine-tuned from published weights: the best of the small ones. Fresh: the one that trains fastest.
DEFAULT_MODEL = "IFormerT"
FRESH_MODEL = "MobileFormer26M"
# The most accurate size of a network that a set of so many photos is worth.
LARGER_MODELS = {"IFormerT": ((20_000, "IFormerM"), (4_000, "IFormerS"))}

SMALLEST, STEP = 64, 32  # of resolutions, in pixels
FRESH_ON_CPU = 96
SMALLEST_BATCH, LARGEST_BATCH = 8, 64
STEPS_PER_EPOCH = 12  # at least
FRESH_STEPS, FINETUNING_STEPS = 600, 360
FEWEST_EPOCHS, MOST_EPOCHS = 12, 50
MANY_PHOTOS = 2000
# A moving average over half of a run's steps or more would hold the first weights.
AVERAGE_STEPS = 2000
AVERAGE_MOMENTUM = 0.998
BALANCED_WITHIN = 1.5  # largest class over smallest, above which small ones are repeated


@dataclass(frozen=True)
class Choice:
    """One number of a plan.

    Attributes:
        name: what it is of.
        value: in words.
        reason: why.
    """

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class PhotoPlan:
    """How a set of photos is trained on.

    Attributes:
        recipe: its numbers.
        counts: how many photos of each class an epoch shows.
        patience: epochs of the second half without a better loss after which training ends.
        choices: the numbers that were fitted to the set, with reasons.
    """

    recipe: Recipe
    counts: tuple[int, ...]
    patience: int
    choices: tuple[Choice, ...]

    def describe(self) -> str:
        """The choices, one a line, aligned."""
        names = max(len(choice.name) for choice in self.choices)
        values = max(len(choice.value) for choice in self.choices)
        return "\n".join(
            f"  {choice.name:<{names}}  {choice.value:<{values}}  {choice.reason}"
            for choice in self.choices
        )


@dataclass(frozen=True)
class Wishes:
    """What the user said; None is left to the plan.

    Attributes:
        model: a builder's name.
        resolution: in pixels.
        batch_size: images of a step.
        epochs: at most.
        learning_rate: its peak.
        seed: of weights, order and augmentation.
    """

    model: str | None = None
    resolution: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Start:
    """What training starts from.

    Attributes:
        weights: published weights' tag, a checkpoint or a run's folder; None for random weights.
        reason: in words.
        model: whose weights they are, where they say so.
        resolution: that they were trained at, where they say so.
    """

    weights: str | None
    reason: str
    model: str | None = None
    resolution: int | None = None

    @property
    def published(self) -> bool:
        """Whether the weights are ImageNet's, and not the user's own."""
        return is_tag(self.weights)


def choose_model(photos: int, start: Start, wishes: Wishes, accelerator: bool) -> Choice:
    """The network, by the size of the set and what can be had for it."""
    if wishes.model:
        builder_family(wishes.model)  # refuses unknown names
        return Choice("model", wishes.model, "as you asked")
    if start.model:
        return Choice("model", start.model, "the one whose weights training starts from")
    if start.weights is None and not accelerator:
        return Choice("model", FRESH_MODEL, "trains fastest without a GPU; --model= takes another")
    for least, name in LARGER_MODELS[DEFAULT_MODEL]:
        if photos >= least and accelerator:
            return Choice("model", name, f"{photos:,} photos are enough for it")
    return Choice("model", DEFAULT_MODEL, "small and quick on phones, enough for this many photos")


def plan_photos(
    counts: Sequence[int],
    short_sides: Sequence[int],
    start: Start,
    wishes: Wishes,
    accelerator: bool,
) -> PhotoPlan:
    """Fits a recipe to a set of photos.

    Args:
        counts: training photos of each class.
        short_sides: of some or all photos, in pixels.
        start: what training starts from.
        wishes: what the user said.
        accelerator: whether there is a GPU or TPU.

    Raises:
        ValueError: for an unknown model or an impossible number.
    """
    photos = sum(counts)
    model = choose_model(photos, start, wishes, accelerator)
    size, size_reason = _resolution(model.value, short_sides, start, wishes, accelerator)
    shown, balance = balanced(counts)
    batch = wishes.batch_size or _batch_size(sum(shown))
    passes = max(1, math.ceil(STEPS_PER_EPOCH * batch / sum(shown)))
    shown = [count * passes for count in shown]
    steps = sum(shown) // batch
    wanted = FINETUNING_STEPS if start.published else FRESH_STEPS
    epochs = wishes.epochs or min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(wanted / steps)))
    total = steps * epochs
    warmup = max(1, round(min(0.1 * total, 2 * steps)))
    if warmup >= total:
        warmup = 0
    rate, decay, rate_reason = _learning_rate(batch, start)
    if wishes.learning_rate is not None:
        rate, rate_reason = wishes.learning_rate, "as you asked"
    averaged = total >= AVERAGE_STEPS
    many = photos >= MANY_PHOTOS
    recipe = Recipe(
        model=model.value,
        epochs=epochs,
        batch_size=batch,
        learning_rate=rate,
        final_learning_rate=rate / 100,
        resolution=size,
        warmup_steps=warmup,
        weight_decay=0.05,
        label_smoothing=0.1,
        clip_norm=1.0,
        ema_momentum=AVERAGE_MOMENTUM if averaged else None,
        crop_area=(0.25, 1.0) if many else (0.5, 1.0),
        color_jitter=0.2,
        randaugment_magnitude=7.0 if many else None,
        crop_fraction=1.0,
        to_square=STRETCH,
        layer_decay=decay,
        initial_weights=start.weights,
        seed=wishes.seed,
    )
    asked = "as you asked"
    choices = (
        Choice("start", start.weights or "random weights", start.reason),
        model,
        Choice("resolution", f"{size} px", size_reason),
        Choice("framing", "whole photos", "stretched to a square, as MediaPipe's classifier does"),
        Choice(
            "batch",
            str(batch),
            asked
            if wishes.batch_size
            else f"a tenth of {sum(balanced(counts)[0]):,} photos, "
            f"from {SMALLEST_BATCH} to {LARGEST_BATCH}",
        ),
        Choice(
            "epochs",
            f"{epochs} of {steps} steps",
            asked
            if wishes.epochs
            else f"about {wanted} steps in all, {FEWEST_EPOCHS} to {MOST_EPOCHS} epochs; fewer "
            "where nothing improves any more"
            + (f"; an epoch shows each photo {passes} times" if passes > 1 else ""),
        ),
        Choice("warm-up", f"{warmup} steps", "a tenth of all steps, two epochs at most"),
        Choice("learning rate", f"{rate:.2g}", rate_reason),
        Choice(
            "augmentation",
            "strong" if many else "mild",
            f"{photos:,} photos; mirrored pictures count as the same class",
        ),
        Choice(
            "average",
            f"momentum {AVERAGE_MOMENTUM}" if averaged else "off",
            f"of the weights over {total:,} steps"
            if averaged
            else f"{total:,} steps are too few for a moving average of the weights",
        ),
        *([balance] if balance else []),
    )
    return PhotoPlan(recipe, tuple(shown), _patience(epochs), choices)


def balanced(counts: Sequence[int]) -> tuple[list[int], Choice | None]:
    """How often an epoch shows each class, and a word on it where that is not once a photo.

    Small classes are repeated, ten times at most, with another augmentation each time.
    """
    largest, smallest = max(counts), min(counts)
    if largest <= BALANCED_WITHIN * smallest:
        return list(counts), None
    shown = [min(10 * count, largest) for count in counts]
    return shown, Choice(
        "balance",
        "small classes repeated",
        f"the largest class has {largest:,} photos, the smallest {smallest:,}",
    )


def with_epochs(plan: PhotoPlan, epochs: int, reason: str) -> PhotoPlan:
    """The plan with fewer epochs."""
    steps = sum(plan.counts) // plan.recipe.batch_size
    warmup = min(plan.recipe.warmup_steps, max(0, steps * epochs // 10))
    averaged = plan.recipe.ema_momentum is not None and steps * epochs >= AVERAGE_STEPS
    recipe = dataclasses.replace(
        plan.recipe,
        epochs=epochs,
        warmup_steps=warmup,
        ema_momentum=plan.recipe.ema_momentum if averaged else None,
    )
    shorter = Choice("epochs", f"{epochs} of {steps} steps", reason)
    choices = tuple(shorter if choice.name == "epochs" else choice for choice in plan.choices)
    return dataclasses.replace(plan, recipe=recipe, choices=choices, patience=_patience(epochs))


def _patience(epochs):
    """Epochs without a better loss that end a run, counted from its middle on.

    What a falling learning rate adds comes last: a run that stops on the plateau before ends with
    the weights of a high rate, some points worse.
    """
    return max(4, epochs // 4)


def _resolution(model, short_sides, start, wishes, accelerator):
    if wishes.resolution:
        return wishes.resolution, "as you asked"
    if start.resolution:
        return start.resolution, "that of the weights that training starts from"
    native = preprocessing_of(model).resolution
    median = statistics.median(short_sides)
    fitting = max(SMALLEST, STEP * math.ceil(median / STEP))
    if not start.published and not accelerator and min(native, fitting) > FRESH_ON_CPU:
        return FRESH_ON_CPU, f"quick without a GPU; the network's own is {native} px"
    if fitting < native:
        return fitting, f"half of the photos are no larger than {median:.0f} px"
    return native, "the network's own"


def _batch_size(photos):
    batch = 2 ** math.floor(math.log2(max(1, photos / 10)))
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, batch))


def _learning_rate(batch, start):
    """Peak, layer-wise decay and the reason."""
    scale = math.sqrt(batch / 32)
    if start.weights is None:
        return 2e-3 * scale, None, f"2e-3 x sqrt({batch} / 32), for random weights"
    if start.published:
        return 5e-4 * scale, 0.8, f"5e-4 x sqrt({batch} / 32), less for deeper layers"
    # A trunk that a small set has trained has much to learn still, in all of its depth.
    return 2e-3 * scale, None, f"2e-3 x sqrt({batch} / 32), for weights of a small set"
