"""Classification: one label for an image."""

import keras
import numpy as np

from keras_hybrid.models.catalogue import build_model
from keras_hybrid.training.augmentation.finishing import FinishingView, may_finish_on_device
from keras_hybrid.training.data.pipeline import evaluation_dataset, training_dataset
from keras_hybrid.training.data.process_share import ALONE
from keras_hybrid.training.data.sources import open_source
from keras_hybrid.training.optimization.finetuning import load_initial_weights
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.training.tasks.task import Task


class Classification(Task):
    """A network with softmax, trained up to its logits."""

    name = "classification"
    recipe_class = Recipe
    title = "accuracy"

    def metric(self, recipe):
        return "accuracy"

    def open_source(self, data, data_dir=None):
        return open_source(data, data_dir)

    def new_network(self, recipe, num_classes, any_size=False):
        size = None if any_size else recipe.resolution
        options = {} if recipe.dropout_rate is None else {"dropout_rate": recipe.dropout_rate}
        return build_model(
            recipe.model,
            weights=None,
            input_shape=(size, size, 3),
            classes=num_classes,
            drop_path_rate=recipe.drop_path_rate,
            **options,
            **recipe.model_options,
        )

    def load_initial_weights(self, model, recipe):
        load_initial_weights(model, recipe)

    def outputs(self, network):
        return network.get_layer("predictions").input

    def view(self, recipe, plain):
        if not may_finish_on_device(recipe):
            return plain
        return FinishingView(
            plain.inputs[0], plain.outputs, model_name=recipe.model, name=plain.name
        )

    def losses(self, recipe, view):
        return {
            "loss": keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=recipe.label_smoothing
            ),
            "weighted_metrics": [keras.metrics.CategoricalAccuracy(name="accuracy")],
        }

    def example(self, view):
        shape = (1, view.output_shape[-1])
        return np.ones(shape, "float32"), np.ones(shape, "float32")

    def training_dataset(
        self, source, recipe, first_epoch=0, share=ALONE, teacher_logits=None, first_step=0
    ):
        return training_dataset(source, recipe, first_epoch, share, teacher_logits, first_step)

    def evaluation_dataset(self, source, recipe, share=ALONE, split=None):
        return evaluation_dataset(source, recipe, split, share=share)
