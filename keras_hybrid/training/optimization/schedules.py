"""How a recipe optimises: learning rate by step, AdamW, and what is not decayed."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_hybrid.training.optimization.adamw import ScaledAdamW
from keras_hybrid.training.optimization.layer_depth import (
    head_multipliers,
    learning_rate_multipliers,
)
from keras_hybrid.training.recipe.common import MULTISTEP, CommonRecipe

POLY_POWER = 0.9


@keras.saving.register_keras_serializable("keras_hybrid")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise, then half a cosine or a power of what is left, then a floor.

    Args:
        peak: the highest learning rate.
        first: where the rise starts.
        floor: where the cosine ends, and what follows it.
        warmup: steps of the rise.
        decay: step at which the cosine ends.
        unit: the cosine changes after so many steps: 1, or an epoch's.
        warmup_unit: the same of the rise.
        starts_with_run: whether the cosine is counted from the run's start, of which the rise
            hides the beginning, as in timm; else it starts where the rise ends.
        power: the fall is (1 - t) to this power; None for half a cosine.
    """

    def __init__(
        self,
        peak: float,
        first: float,
        floor: float,
        warmup: int,
        decay: int,
        unit: int = 1,
        warmup_unit: int = 1,
        starts_with_run: bool = False,
        power: float | None = None,
    ):
        super().__init__()
        self.peak, self.first, self.floor = peak, first, floor
        self.warmup, self.decay = warmup, decay
        self.unit, self.warmup_unit = unit, warmup_unit
        self.starts_with_run = starts_with_run
        self.power = power

    def __call__(self, step):
        rise = self.first + (self.peak - self.first) * _by(self.warmup_unit, step) / max(
            self.warmup, 1
        )
        start = 0 if self.starts_with_run else self.warmup
        share = ops.clip((_by(self.unit, step) - start) / (self.decay - start), 0.0, 1.0)
        if self.power is None:
            left = (1 + ops.cos(math.pi * share)) / 2
        else:
            left = ops.power(1 - share, self.power)
        fall = self.floor + (self.peak - self.floor) * left
        return ops.where(ops.cast(step, "float32") < self.warmup, rise, fall)

    def get_config(self):
        names = ("peak", "first", "floor", "warmup", "decay", "unit", "warmup_unit")
        names += ("starts_with_run", "power")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("keras_hybrid")
class WarmupMultistep(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise, and a fall to a tenth at each of some steps.

    Args:
        peak: the highest learning rate.
        first: where the rise starts.
        warmup: steps of the rise.
        falls: the steps.
    """

    def __init__(self, peak: float, first: float, warmup: int, falls: Sequence[int]):
        super().__init__()
        self.peak, self.first = peak, first
        self.warmup, self.falls = warmup, tuple(falls)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        left = self.peak
        for fall in self.falls:
            left = left * ops.where(step < fall, 1.0, 0.1)
        rise = self.first + (self.peak - self.first) * step / max(self.warmup, 1)
        return ops.where(step < self.warmup, rise, left)

    def get_config(self):
        names = ("peak", "first", "warmup", "falls")
        return {name: getattr(self, name) for name in names}


def _by(unit, step):
    """The last multiple of `unit` up to a step."""
    return ops.cast(ops.floor_divide(step, unit) * unit, "float32")


def learning_rate_schedule(
    recipe: CommonRecipe, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, then the decay to the final learning rate, by optimiser step or by epoch.

    All learning rates are multiplied by the recipe's `learning_rate_scale`.

    Raises:
        ValueError: when warm-up and cool-down are as long as the run.
    """
    scale = recipe.learning_rate_scale
    total = recipe.epochs * steps_per_epoch
    warmup = recipe.warmup_steps or round(recipe.warmup_epochs * steps_per_epoch)
    cooldown = round(recipe.cooldown_epochs * steps_per_epoch)
    if warmup + cooldown >= total:
        raise ValueError(
            "The warm-up must be shorter than the run, with the cool-down. Received: "
            f"{warmup} steps of warm-up, {cooldown} of cool-down, {total} steps in all"
        )
    if recipe.decay == MULTISTEP:
        return WarmupMultistep(
            recipe.learning_rate * scale,
            recipe.warmup_learning_rate * scale,
            warmup,
            [epoch * steps_per_epoch for epoch in recipe.decay_epochs],
        )
    unit = steps_per_epoch if recipe.schedule_unit == "epoch" else 1
    return WarmupCosine(
        peak=recipe.learning_rate * scale,
        first=recipe.warmup_learning_rate * scale,
        floor=recipe.final_learning_rate * scale,
        warmup=warmup,
        decay=total - cooldown,
        unit=unit,
        warmup_unit=1 if recipe.warmup_steps else unit,
        starts_with_run=recipe.cosine_from == "run",
        power=POLY_POWER if recipe.decay == "poly" else None,
    )


@keras.saving.register_keras_serializable("keras_hybrid")
class PerUpdate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule by optimiser step where gradients accumulate: Keras counts training steps.

    Args:
        schedule: by optimiser step.
        accumulation_steps: training steps in an optimiser step.
    """

    def __init__(self, schedule, accumulation_steps: int):
        super().__init__()
        self.schedule = schedule
        self.accumulation_steps = accumulation_steps

    def __call__(self, step):
        return self.schedule(keras.ops.floor_divide(step, self.accumulation_steps))

    def get_config(self):
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {"schedule": schedule, "accumulation_steps": self.accumulation_steps}

    @classmethod
    def from_config(cls, config):
        schedule = keras.optimizers.schedules.deserialize(config["schedule"])
        return cls(schedule, config["accumulation_steps"])


def is_decayed(variable: keras.Variable, kinds: tuple[str, ...] = ("kernels",)) -> bool:
    """Whether weight decay applies to a variable.

    Args:
        variable: of a network of this package.
        kinds: of variables that decay, some of `DECAYED`.
    """
    if "all" in kinds:
        return True
    if variable.name == "tokens":
        return "tokens" in kinds
    if "layer_scale" in variable.path:
        return "layer_scales" in kinds
    return len(variable.shape) > 1 and "kernels" in kinds


def make_optimizer(
    recipe: CommonRecipe, model: keras.Model, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """The recipe's AdamW, built for the model's trainable variables.

    With `layer_decay` their learning rates fall with the distance from the head, whose own are
    `head_rate` times as high.

    Args:
        recipe: its numbers.
        model: what it will train.
        steps_per_epoch: training steps of an epoch, `accumulation_steps` for each of the
            optimiser's.
    """
    accumulation = recipe.accumulation_steps
    schedule = learning_rate_schedule(recipe, steps_per_epoch // accumulation)
    multipliers = {}
    if recipe.layer_decay is not None:
        multipliers = learning_rate_multipliers(model, recipe.layer_decay)
    if recipe.head_rate != 1:
        for path, rate in head_multipliers(model, recipe.head_rate).items():
            multipliers[path] = multipliers.get(path, 1.0) * rate
    optimizer = ScaledAdamW(
        PerUpdate(schedule, accumulation) if accumulation > 1 else schedule,
        multipliers,
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip_norm,
        ema_warmup=recipe.ema_warmup,
        use_ema=recipe.ema_momentum is not None,
        ema_momentum=recipe.ema_momentum or 0.0,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
    )
    variables = model.trainable_variables
    optimizer.exclude_from_weight_decay(
        var_list=[variable for variable in variables if not is_decayed(variable, recipe.decayed)]
    )
    optimizer.build(variables)
    return optimizer
