"""How a recipe optimises: learning rate by step, AdamW, and what is not decayed."""

import keras

from keras_hybrid.training.optimization.adamw import ScaledAdamW
from keras_hybrid.training.optimization.layer_depth import learning_rate_multipliers
from keras_hybrid.training.recipe.recipe import Recipe


def learning_rate_schedule(
    recipe: Recipe, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, then a cosine to the final learning rate, by optimiser step.

    All learning rates are multiplied by the recipe's `learning_rate_scale`.

    Raises:
        ValueError: when the warm-up is longer than the run.
    """
    scale = recipe.learning_rate_scale
    total = recipe.epochs * steps_per_epoch
    warmup = recipe.warmup_steps or round(recipe.warmup_epochs * steps_per_epoch)
    if warmup >= total:
        raise ValueError(
            "The warm-up must be shorter than the run. "
            f"Received: {warmup} steps of warm-up, {total} steps in all"
        )
    peak = recipe.learning_rate * scale
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.warmup_learning_rate * scale if warmup else peak,
        decay_steps=total - warmup,
        alpha=recipe.final_learning_rate / recipe.learning_rate,
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
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


def is_decayed(variable: keras.Variable) -> bool:
    """Whether weight decay applies: to kernels, not to biases, scales of norms or tokens."""
    return len(variable.shape) > 1 and variable.name != "tokens"


def make_optimizer(
    recipe: Recipe, model: keras.Model, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """The recipe's AdamW, built for the model's trainable variables.

    With `layer_decay` their learning rates fall with the distance from the head.

    Args:
        recipe: its numbers.
        model: what it will train.
        steps_per_epoch: training steps of an epoch, `accumulation_steps` for each of the
            optimiser's.
    """
    accumulation = recipe.accumulation_steps
    schedule = learning_rate_schedule(recipe, steps_per_epoch // accumulation)
    multipliers = None
    if recipe.layer_decay is not None:
        multipliers = learning_rate_multipliers(model, recipe.layer_decay)
    optimizer = ScaledAdamW(
        PerUpdate(schedule, accumulation) if accumulation > 1 else schedule,
        multipliers,
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip_norm,
        use_ema=recipe.ema_momentum is not None,
        ema_momentum=recipe.ema_momentum or 0.0,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
    )
    variables = model.trainable_variables
    optimizer.exclude_from_weight_decay(
        var_list=[variable for variable in variables if not is_decayed(variable)]
    )
    optimizer.build(variables)
    return optimizer
