"""Whether a recipe's numbers make sense together; what each may be alone is with its field."""

import dataclasses

from keras_hybrid.training.recipe.fields import check_fields

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


def check_common(recipe):
    """Refuses numbers that make no sense for any task, whatever the model and the data are.

    Raises:
        ValueError: it names the field.
    """
    check_fields(recipe)
    _check(
        recipe,
        "accumulation_steps",
        recipe.batch_size % recipe.accumulation_steps == 0,
        f"a divisor of batch_size={recipe.batch_size}",
    )
    if recipe.decay == "multistep" or recipe.decay_epochs:
        holds = recipe.decay == "multistep" and max(recipe.decay_epochs, default=0) > 0
        holds = holds and max(recipe.decay_epochs) < recipe.epochs
        expected = f"epochs before the last of {recipe.epochs}, and go with decay='multistep'"
        _check(recipe, "decay_epochs", holds, expected)
    fields = {field.name for field in dataclasses.fields(recipe)}
    taken = sorted((fields | _SET_BY_TRAINING) & set(recipe.model_options))
    _check(recipe, "model_options", not taken, f"without {taken}, which training sets itself")


def check_recipe(recipe):
    """Refuses numbers of a classifier's recipe that make no sense together.

    Raises:
        ValueError: it names the field.
    """
    if recipe.scales and recipe.accumulation_steps > 1:
        raise ValueError(
            "Batches of several scales cannot be accumulated. Received: "
            f"scales={recipe.scales}, accumulation_steps={recipe.accumulation_steps}"
        )
    if recipe.mixing_group is not None:
        step = recipe.batch_size // recipe.accumulation_steps
        holds = step % recipe.mixing_group == 0 or step < recipe.mixing_group
        holds &= not recipe.scales
        expected = f"a divisor of the {step} images of a step, which have one size"
        _check(recipe, "mixing_group", holds, expected)
    if recipe.new_classifier and recipe.initial_weights is None:
        raise ValueError(
            "`new_classifier` needs `initial_weights`; without them all is new. Received: "
            f"new_classifier={recipe.new_classifier!r}"
        )
    _check_teacher(recipe)


def _check_teacher(recipe):
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
