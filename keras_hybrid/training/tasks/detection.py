"""Detection: boxes with classes, by a head on any backbone."""

import warnings

import numpy as np

from keras_hybrid.layer_names import is_in_head
from keras_hybrid.models.catalogue import build_model
from keras_hybrid.tasks.detection.detection_training import DetectionTraining
from keras_hybrid.tasks.detection.file_output import object_classes
from keras_hybrid.tasks.detection.retinanet import retinanet
from keras_hybrid.tasks.detection.ssdlite import ssdlite
from keras_hybrid.training.data.detection.detection_pipeline import (
    detection_evaluation_dataset,
    detection_training_dataset,
)
from keras_hybrid.training.data.detection.detection_source import with_objects
from keras_hybrid.training.data.detection.detection_sources import open_detection_source
from keras_hybrid.training.data.process_share import ALONE
from keras_hybrid.training.detection_evaluation import evaluate_detection
from keras_hybrid.training.optimization.finetuning import load_backbone_weights
from keras_hybrid.training.recipe.detection import DetectionRecipe
from keras_hybrid.training.recipe.objects import SQUARE
from keras_hybrid.training.tasks.task import Task

ANY_SIZE = (None, None)


class Detection(Task):
    """A network of two outputs, offsets of boxes and logits of classes, with one loss over both."""

    name = "detection"
    recipe_class = DetectionRecipe
    title = "AP"
    heads = {"ssdlite": ssdlite, "retinanet": retinanet}

    def metric(self, recipe):
        return "ap"

    def open_source(self, data, data_dir=None):
        return open_detection_source(data, data_dir)

    def prepared_source(self, source, recipe):
        source = self._with_objects(source, recipe)
        groups = source.groups("train", recipe)
        if groups is not None:
            for kind, count in (("upright", groups.sum()), ("wide", (~groups).sum())):
                if 0 < count < recipe.batch_size:
                    warnings.warn(
                        f"{count} images of train are {kind}, fewer than batch_size="
                        f"{recipe.batch_size}: they fill no batch of their own and are not trained "
                        "on. Take a smaller batch, or shorter_side=none.",
                        stacklevel=2,
                    )
        return source

    def _with_objects(self, source, recipe):
        split = source.evaluation_split
        if not source.counts(split).any():
            raise ValueError(
                "Images with boxes are expected to evaluate on, too. "
                f"Received: {source.name}, whose {source.sizes[split]} images of {split} have none"
            )
        return source if recipe.empty_images else with_objects(source)

    def new_network(self, recipe, num_classes, any_size=False):
        any_size = any_size or recipe.fit != SQUARE
        size = ANY_SIZE if any_size else (recipe.resolution, recipe.resolution)
        return self._network(recipe, num_classes, size)

    def sized_network(self, recipe, num_classes):
        return self._network(recipe, num_classes, recipe.wide_size)

    def _network(self, recipe, num_classes, size):
        backbone = build_model(
            recipe.model,
            weights=None,
            include_top=False,
            input_shape=(*size, 3),
            drop_path_rate=recipe.drop_path_rate,
            **recipe.model_options,
        )
        try:
            return self.heads[recipe.head](backbone, num_classes, **recipe.head_options)
        except TypeError as error:
            raise ValueError(
                f"`head_options` must be arguments of `keras_hybrid.{recipe.head}` ({error}). "
                f"Received: head_options={recipe.head_options!r}"
            ) from error

    def load_initial_weights(self, model, recipe):
        load_backbone_weights(model, recipe)

    def classes_of(self, model):
        return object_classes(model)

    def outputs(self, network):
        return network.output

    def view(self, recipe, plain):
        return DetectionTraining(plain, recipe.box_weight, name=plain.name)

    def keeps_statistics(self, recipe, layer):
        return recipe.frozen_statistics and not is_in_head(layer.name)

    def losses(self, recipe, view):
        return {}  # the view has its own

    def example(self, view):
        return np.zeros(1, "float32"), np.zeros(1, "float32")

    def measure(self, model, source, recipe):
        found = evaluate_detection(model, source, recipe).precision
        return {"ap": found.ap, "ap50": found.ap50}

    def training_dataset(
        self, source, recipe, first_epoch=0, share=ALONE, teacher_logits=None, first_step=0
    ):
        return detection_training_dataset(source, recipe, first_epoch, share, first_step)

    def evaluation_dataset(self, source, recipe, share=ALONE, split=None):
        return detection_evaluation_dataset(source, recipe, split, share=share)
