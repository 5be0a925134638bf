"""What a task is to training: a contract that each task fills in."""

import abc
from typing import Any

import keras
import tensorflow as tf

from keras_hybrid.training.data.image_source import ImageSource
from keras_hybrid.training.data.process_share import ALONE, Share
from keras_hybrid.training.recipe.common import CommonRecipe


class Task(abc.ABC):
    """A kind of network, its data and its figure.

    `train` does the rest alike for all: schedule, optimiser, averages, states, resuming, devices.

    Attributes:
        name: of the task, as a run's folder has it.
        recipe_class: of its recipes.
        title: what its figure is called in a sentence.
    """

    name: str
    recipe_class: type[CommonRecipe]
    title: str

    @abc.abstractmethod
    def metric(self, recipe: CommonRecipe) -> str:
        """The name of the metric that the best epoch has the greatest value of."""

    @abc.abstractmethod
    def open_source(self, data: str, data_dir: str | None = None) -> ImageSource:
        """Opens a data set by its name."""

    def prepared_source(self, source: ImageSource, recipe: CommonRecipe) -> ImageSource:
        """The data set as the recipe trains on it.

        Raises:
            ValueError: where it cannot.
        """
        return source

    @abc.abstractmethod
    def new_network(
        self, recipe: CommonRecipe, num_classes: int, any_size: bool = False
    ) -> keras.Model:
        """The recipe's network as it is saved, new."""

    def trained_network(
        self, recipe: CommonRecipe, num_classes: int, any_size: bool = False
    ) -> keras.Model:
        """The network with what it has in training alone, new."""
        return self.new_network(recipe, num_classes, any_size)

    def sized_network(self, recipe: CommonRecipe, num_classes: int) -> keras.Model:
        """The network for images of a training batch's size, new."""
        return self.new_network(recipe, num_classes)

    def classes_of(self, model: keras.Model) -> int:
        """How many classes a network as it is saved has."""
        return model.output_shape[-1]

    def trains_more(self, recipe: CommonRecipe) -> bool:
        """Whether the network that is trained has more than the one that is saved."""
        return False

    @abc.abstractmethod
    def load_initial_weights(self, model: keras.Model, recipe: CommonRecipe):
        """Puts the recipe's initial weights into a new model, where it has some."""

    @abc.abstractmethod
    def outputs(self, network: keras.Model) -> Any:
        """The tensors of a network that its loss is computed from."""

    def view(self, recipe: CommonRecipe, plain: keras.Model) -> keras.Model:
        """What is compiled and fitted, of a plain model from images to `outputs`."""
        return plain

    def keeps_statistics(self, recipe: CommonRecipe, layer: keras.layers.Layer) -> bool:
        """Whether a batch norm keeps its statistics in training."""
        return False

    @abc.abstractmethod
    def losses(self, recipe: CommonRecipe, view: keras.Model) -> dict[str, Any]:
        """The arguments of `compile` that are the task's: loss and metrics."""

    @abc.abstractmethod
    def example(self, view: keras.Model) -> tuple[Any, Any]:
        """Labels and outputs of one image, for metrics to be built with."""

    def measure(
        self, model: keras.Model, source: ImageSource, recipe: CommonRecipe
    ) -> dict[str, float]:
        """Figures of the evaluation split by name, which no Keras metric computes.

        They are measured after each epoch, and count as metrics.

        Args:
            model: the network as it is saved.
            source: of the images.
            recipe: of the run.
        """
        return {}

    @abc.abstractmethod
    def training_dataset(
        self,
        source: ImageSource,
        recipe: CommonRecipe,
        first_epoch: int = 0,
        share: Share = ALONE,
        teacher_logits: Any = None,
        first_step: int = 0,
    ) -> tf.data.Dataset:
        """Batches of all epochs from the first one on."""

    @abc.abstractmethod
    def evaluation_dataset(
        self,
        source: ImageSource,
        recipe: CommonRecipe,
        share: Share = ALONE,
        split: str | None = None,
    ) -> tf.data.Dataset:
        """Batches of the evaluation split, or of another."""
