"""Whether a recipe's numbers make sense."""

import dataclasses

# Arguments of builders that are no choice of a recipe's.
_SET_BY_TRAINING = {
    "weights",
    "include_top",
    "input_tensor",
    "input_shape",
    "pooling",
    "classes",
    "classifier_activation",
}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
TEACHER_LOSSES = ("hard", "soft")


def check_recipe(recipe):
    """Refuses numbers that make no sense, whatever the model and the data are.

    Raises:
        ValueError: it names the field.
    """
    for name in (
        "epochs",
        "batch_size",
        "resolution",
        "shuffle_buffer",
        "accumulation_steps",
    ):
        _check(recipe, name, getattr(recipe, name) >= 1, "at least 1")
    _check(recipe, "learning_rate", recipe.learning_rate > 0, "positive")
    for name in (
        "warmup_epochs",
        "warmup_steps",
        "warmup_learning_rate",
        "final_learning_rate",
        "weight_decay",
        "randaugment_std",
        "mixup",
        "cutmix",
    ):
        _check(recipe, name, getattr(recipe, name) >= 0, "0 or more")
    for name in ("label_smoothing", "drop_path_rate", "color_jitter"):
        _check(recipe, name, 0 <= getattr(recipe, name) < 1, "in [0, 1)")
    for name in ("flip_probability", "cutmix_probability", "erase_probability"):
        _check(recipe, name, 0 <= getattr(recipe, name) <= 1, "in [0, 1]")
    for name in ("ema_momentum", "dropout_rate"):
        value = getattr(recipe, name)
        _check(recipe, name, value is None or 0 <= value < 1, "None or in [0, 1)")
    for name in ("clip_norm", "reference_batch_size"):
        value = getattr(recipe, name)
        _check(recipe, name, value is None or value > 0, "None or positive")
    value = recipe.randaugment_magnitude
    holds = value is None or 0 <= value <= 10
    _check(recipe, "randaugment_magnitude", holds, "None or in [0, 10]")
    value = recipe.crop_fraction
    _check(recipe, "crop_fraction", value is None or 0 < value <= 1, "None or in (0, 1]")
    choices = (None, "bilinear", "bicubic")
    _check(recipe, "interpolation", recipe.interpolation in choices, f"one of {choices}")
    _check(recipe, "precision", recipe.precision in PRECISIONS, f"one of {PRECISIONS}")
    _check(
        recipe,
        "accumulation_steps",
        recipe.batch_size % recipe.accumulation_steps == 0,
        f"a divisor of batch_size={recipe.batch_size}",
    )
    _check(recipe, "scales", all(scale >= 64 for scale in recipe.scales), "sizes of at least 64")
    if recipe.scales and recipe.accumulation_steps > 1:
        raise ValueError(
            "Batches of several scales cannot be accumulated. Received: "
            f"scales={recipe.scales}, accumulation_steps={recipe.accumulation_steps}"
        )
    fields = {field.name for field in dataclasses.fields(recipe)}
    taken = sorted((fields | _SET_BY_TRAINING) & set(recipe.model_options))
    _check(recipe, "model_options", not taken, f"without {taken}, which training sets itself")
    low, high = recipe.crop_area
    _check(recipe, "crop_area", 0 < low <= high <= 1, "two rising shares in (0, 1]")
    low, high = recipe.crop_aspect
    _check(recipe, "crop_aspect", 0 < low <= high, "two rising positive numbers")
    value = recipe.layer_decay
    _check(recipe, "layer_decay", value is None or 0 < value <= 1, "None or in (0, 1]")
    value = recipe.frozen_stages
    _check(recipe, "frozen_stages", value is None or value >= 0, "None or a stage, 0 for the stem")
    if recipe.new_classifier and recipe.initial_weights is None:
        raise ValueError(
            "`new_classifier` needs `initial_weights`; without them all is new. Received: "
            f"new_classifier={recipe.new_classifier!r}"
        )
    _check_teacher(recipe)


def _check_teacher(recipe):
    losses = TEACHER_LOSSES
    _check(recipe, "teacher_loss", recipe.teacher_loss in losses, f"one of {losses}")
    _check(recipe, "teacher_share", 0 <= recipe.teacher_share <= 1, "in [0, 1]")
    _check(recipe, "teacher_temperature", recipe.teacher_temperature > 0, "positive")
    value = recipe.teacher_resolution
    _check(recipe, "teacher_resolution", value is None or value >= 1, "None or at least 1")
    if recipe.teacher is None:
        for name in ("teacher_resolution", "teacher_preprocessing", "teacher_cache"):
            value = getattr(recipe, name)
            _check(recipe, name, value is None, "None without a `teacher`")
    elif recipe.teacher_cache is not None and (recipe.mixup or recipe.cutmix):
        raise ValueError(
            "The cache holds a teacher's logits of whole images, not of mixtures: it needs "
            "`mixup=0 cutmix=0`, or ask the teacher at each step with `teacher_cache=none`. "
            f"Received: mixup={recipe.mixup}, cutmix={recipe.cutmix}, "
            f"teacher_cache={recipe.teacher_cache!r}"
        )


def _check(recipe, name, holds, expected):
    if not holds:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={getattr(recipe, name)!r}")
