"""How a recipe optimises: learning rate by step, AdamW, and what is not decayed."""

import keras

from keras_hybrid.training.recipe import Recipe


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


def is_decayed(variable: keras.Variable) -> bool:
    """Whether weight decay applies: to kernels, not to biases, scales of norms or tokens."""
    return len(variable.shape) > 1 and variable.name != "tokens"


def make_optimizer(
    recipe: Recipe, model: keras.Model, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """The recipe's AdamW, built for the model's trainable variables."""
    optimizer = keras.optimizers.AdamW(
        learning_rate_schedule(recipe, steps_per_epoch),
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip_norm,
        use_ema=recipe.ema_momentum is not None,
        ema_momentum=recipe.ema_momentum or 0.0,
    )
    variables = model.trainable_variables
    optimizer.exclude_from_weight_decay(
        var_list=[variable for variable in variables if not is_decayed(variable)]
    )
    optimizer.build(variables)
    return optimizer
