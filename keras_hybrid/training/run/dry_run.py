"""What a recipe would do: its numbers, its steps, its learning rates, its memory, one batch."""

import math

import keras

from keras_hybrid.training.augmentation.finishing import finish_images
from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.pipeline import steps_per_epoch
from keras_hybrid.training.optimization.layer_depth import freeze_stages
from keras_hybrid.training.optimization.precision import precision_of
from keras_hybrid.training.optimization.schedules import learning_rate_schedule
from keras_hybrid.training.recipe.common import CommonRecipe
from keras_hybrid.training.run.run import without_vain_average
from keras_hybrid.training.tasks.of_recipe import task_of

CURVE_POINTS = 11
# Weight, gradient and AdamW's two moments, in float32.
BYTES_PER_PARAMETER = 16


def dry_run(recipe: CommonRecipe, source: ImageSource) -> str:
    """Describes a run without training, and reads one batch of it.

    Args:
        recipe: its numbers.
        source: its data.

    Returns: the recipe, steps, learning rates over the run, memory and the batch, as text.

    Raises:
        ValueError: for a recipe or data that cannot be trained.
    """
    task = task_of(recipe)
    source = task.prepared_source(source, recipe)
    training_steps = steps_per_epoch(source, recipe)
    steps = training_steps // recipe.accumulation_steps
    total = steps * recipe.epochs
    numbers = recipe.describe()
    recipe, without_average = without_vain_average(recipe, total)
    schedule = learning_rate_schedule(recipe, steps)
    points = [round(i * (total - 1) / (CURVE_POINTS - 1)) for i in range(CURVE_POINTS)]
    rates = [float(schedule(point)) for point in points]
    peak = max(rates)
    curve = "\n".join(
        f"  step {point:>9,}  {rate:.3e}  {'#' * round(40 * rate / peak)}"
        for point, rate in zip(points, rates, strict=True)
    )
    model = task.sized_network(recipe, len(source.class_names))
    freeze_stages(model, recipe.frozen_stages)
    parameters = sum(keras.ops.size(variable) for variable in model.trainable_variables)
    copies = BYTES_PER_PARAMETER + 4 * (recipe.ema_momentum is not None)
    copies += 4 * (recipe.accumulation_steps > 1)
    # Every output of a layer is kept for the gradient.
    kept = sum(_size(layer.output) for layer in model.layers) * recipe.step_batch_size
    precision = precision_of(recipe)
    width = 4 if precision == "float32" else 2
    given, labels = next(iter(task.training_dataset(source, recipe)))
    images = finish_images(given, recipe.model)
    travels = ", which travel as 8-bit pixels" if images is not given else ""
    scales = (
        f"batches of several scales: {recipe.scale_batch_sizes}\n"
        if recipe.scale_batch_sizes
        else ""
    )
    return f"""{numbers}
{without_average or ""}

data: {source.name}, {source.sizes}, {len(source.class_names)} classes
{steps:,} steps an epoch of {recipe.batch_size} images, {total:,} in all; \
{training_steps:,} batches of {recipe.step_batch_size} images an epoch
{scales}learning rate (peak {recipe.learning_rate * recipe.learning_rate_scale:.3e}):
{curve}
model: {recipe.model}, {int(parameters):,} trainable parameters
memory: {int(parameters) * copies / 2**20:,.0f} MiB of weights, gradients and moments, \
at most {kept * width / 2**20:,.0f} MiB of activations in {precision}
one batch: images {tuple(images.shape)} from {float(keras.ops.min(images)):.2f} to \
{float(keras.ops.max(images)):.2f}{travels}, labels {_shapes(labels)}
"""


def _shapes(labels):
    """The shape of a batch's labels, of which there may be several by name."""
    if isinstance(labels, dict):
        return ", ".join(f"{name} {tuple(values.shape)}" for name, values in labels.items())
    return tuple(labels.shape)


def _size(outputs):
    """Numbers in a layer's outputs, for one image."""
    return sum(math.prod(output.shape[1:]) for output in keras.tree.flatten(outputs))
