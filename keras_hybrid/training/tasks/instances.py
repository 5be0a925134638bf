"""Instances: boxes with classes and masks, by Mask R-CNN on any backbone."""

from keras_hybrid.tasks.instances.instance_training import InstanceTraining
from keras_hybrid.tasks.instances.mask_rcnn import mask_rcnn
from keras_hybrid.tasks.instances.parts import parts_of
from keras_hybrid.training.data.detection.detection_sources import open_detection_source
from keras_hybrid.training.detection_evaluation import evaluate_detection
from keras_hybrid.training.optimization.averaging import AverageStatistics
from keras_hybrid.training.recipe.instances import InstanceRecipe
from keras_hybrid.training.recipe.objects import SQUARE
from keras_hybrid.training.tasks.detection import ANY_SIZE, Detection


class Instances(Detection):
    """A Mask R-CNN, with the five parts of its loss; its best epoch is that of the best masks."""

    name = "instances"
    recipe_class = InstanceRecipe
    title = "mask AP"
    heads = {"mask_rcnn": mask_rcnn}

    def metric(self, recipe):
        return "mask_ap"

    def open_source(self, data, data_dir=None):
        return open_detection_source(data, data_dir, masks=True)

    def prepared_source(self, source, recipe):
        if not source.has_masks:
            raise ValueError(
                "Objects with masks are expected: open the data with "
                f"`open_detection_source(..., masks=True)`. Received: {source.name} without"
            )
        return super().prepared_source(source, recipe)

    def classes_of(self, model):
        return parts_of(model).classes

    def trains_more(self, recipe):
        return recipe.fit != SQUARE  # the network that is saved takes images of any size

    def trained_network(self, recipe, num_classes, any_size=False):
        size = ANY_SIZE if any_size else recipe.wide_size
        return self._network(recipe, num_classes, size)

    def view(self, recipe, plain):
        # Norms that keep their statistics are such layers by now: all else is as in training.
        return _View(
            plain,
            recipe.regions,
            recipe.positive_regions,
            recipe.candidates,
            recipe.seed,
            inference_mode=False,
            name=plain.name,
        )

    def measure(self, model, source, recipe):
        found = evaluate_detection(model, source, recipe)
        boxes, masks = found.precision, found.mask_precision
        return {
            "mask_ap": masks.ap,
            "mask_ap50": masks.ap50,
            "ap": boxes.ap,
            "ap50": boxes.ap50,
        }


class _View(InstanceTraining):
    """The view of a run: statistics are averaged, too, where the run has an average."""

    def __init__(self, model, *args, **kwargs):
        super().__init__(model, *args, **kwargs)
        self.averages = [x for x in model.layers if isinstance(x, AverageStatistics)]

    def call(self, images, training=None):
        found = super().call(images, training)
        for layer in self.averages:  # after the outputs, which the view does not compute
            layer(found["draws"], training=training)
        return found
