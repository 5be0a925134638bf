"""Segmentation: a class for each pixel, by a head on any backbone."""

import keras
import numpy as np

from keras_hybrid.layer_names import is_in_head
from keras_hybrid.models.catalogue import build_model
from keras_hybrid.tasks.segmentation.deeplabv3 import deeplabv3
from keras_hybrid.tasks.segmentation.loss import LabelledMeanIoU, SegmentationLoss
from keras_hybrid.tasks.segmentation.semantic_fpn import semantic_fpn
from keras_hybrid.training.data.process_share import ALONE
from keras_hybrid.training.data.segmentation.segmentation_pipeline import (
    segmentation_evaluation_dataset,
    segmentation_training_dataset,
)
from keras_hybrid.training.data.segmentation.segmentation_sources import open_segmentation_source
from keras_hybrid.training.optimization.finetuning import load_backbone_weights
from keras_hybrid.training.recipe.segmentation import SegmentationRecipe
from keras_hybrid.training.tasks.task import Task

HEADS = {"deeplabv3": deeplabv3, "semantic_fpn": semantic_fpn}


class Segmentation(Task):
    """A network that ends in logits at its head's stride."""

    name = "segmentation"
    recipe_class = SegmentationRecipe
    title = "mIoU"

    def metric(self, recipe):
        # Keras names a metric of one of several outputs by both.
        return "logits_mean_iou" if recipe.has_auxiliary else "mean_iou"

    def open_source(self, data, data_dir=None):
        return open_segmentation_source(data, data_dir)

    def new_network(self, recipe, num_classes, any_size=False):
        return self._network(recipe, num_classes, any_size, {"auxiliary"})

    def trained_network(self, recipe, num_classes, any_size=False):
        return self._network(recipe, num_classes, any_size, set())

    def trains_more(self, recipe):
        return recipe.has_auxiliary

    def _network(self, recipe, num_classes, any_size, left_out):
        size = None if any_size else recipe.resolution
        backbone = build_model(
            recipe.model,
            weights=None,
            include_top=False,
            input_shape=(size, size, 3),
            drop_path_rate=recipe.drop_path_rate,
            **recipe.model_options,
        )
        options = {
            name: value for name, value in recipe.head_options.items() if name not in left_out
        }
        options |= {} if recipe.dropout_rate is None else {"dropout_rate": recipe.dropout_rate}
        try:
            return HEADS[recipe.head](backbone, num_classes, **options)
        except TypeError as error:
            raise ValueError(
                f"`head_options` must be arguments of `keras_hybrid.{recipe.head}` ({error}). "
                f"Received: head_options={recipe.head_options!r}"
            ) from error

    def load_initial_weights(self, model, recipe):
        load_backbone_weights(model, recipe)

    def outputs(self, network):
        return network.output

    def keeps_statistics(self, recipe, layer):
        return recipe.frozen_statistics and not is_in_head(layer.name)

    def losses(self, recipe, view):
        loss = SegmentationLoss(recipe.loss_divisor, recipe.stretch)
        outputs = view.output
        classes = (outputs["logits"] if isinstance(outputs, dict) else outputs).shape[-1]
        metric = LabelledMeanIoU(classes, recipe.stretch)
        if not isinstance(outputs, dict):
            return {"loss": loss, "metrics": [metric]}
        return {
            "loss": {"logits": loss, "auxiliary": SegmentationLoss.from_config(loss.get_config())},
            "loss_weights": {"logits": 1.0, "auxiliary": recipe.auxiliary_weight},
            "metrics": {"logits": [metric]},
        }

    def example(self, view):
        logits = keras.tree.map_structure(
            lambda output: np.zeros((1, 2, 2, output.shape[-1]), "float32"), view.output
        )
        return keras.tree.map_structure(lambda _: np.zeros((1, 2, 2), "int32"), logits), logits

    def training_dataset(
        self, source, recipe, first_epoch=0, share=ALONE, teacher_logits=None, first_step=0
    ):
        return segmentation_training_dataset(source, recipe, first_epoch, share, first_step)

    def evaluation_dataset(self, source, recipe, share=ALONE, split=None):
        return segmentation_evaluation_dataset(source, recipe, split, share=share)
