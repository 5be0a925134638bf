"""Distillation: what a network learns from a teacher beside the labels."""

import keras
from keras import ops

from keras_hybrid.training.augmentation.finishing import FinishingView, finish_images
from keras_hybrid.training.distillation.teacher import Teacher, restore_images
from keras_hybrid.training.recipe.recipe import Recipe
from keras_hybrid.weights.families import families


class HardTeacherLoss(keras.losses.Loss):
    """Cross-entropy of logits with the class of the teacher's highest logit.

    Reference: DeiT (https://arxiv.org/abs/2012.12877), Section 4, Equation 3.
    """

    def call(self, y_true, y_pred):
        labels = ops.argmax(y_true, axis=-1)
        return keras.losses.sparse_categorical_crossentropy(labels, y_pred, from_logits=True)


class SoftTeacherLoss(keras.losses.Loss):
    """Divergence of the network's distribution from the teacher's, both of one temperature.

    T^2 * KL(softmax(teacher / T) || softmax(network / T)): the factor keeps the gradient's size.

    Args:
        temperature: T.

    Reference: Distilling the Knowledge in a Neural Network (https://arxiv.org/abs/1503.02531),
    Section 2.
    """

    def __init__(self, temperature: float = 1.0, **options):
        super().__init__(**options)
        self.temperature = temperature

    def call(self, y_true, y_pred):
        teacher = ops.log_softmax(ops.cast(y_true, "float32") / self.temperature)
        network = ops.log_softmax(ops.cast(y_pred, "float32") / self.temperature)
        divergence = ops.sum(ops.exp(teacher) * (teacher - network), axis=-1)
        return self.temperature**2 * divergence


def head_logits(model: keras.Model):
    """What a network is distilled through.

    Returns: of a network with two heads both logits, (batch, 2, classes), first the one for
        labels; of others the logits, (batch, classes).
    """
    names = {layer.name for layer in model.layers}
    for two_heads in (family.two_heads for family in families() if family.two_heads):
        heads = [dense for _, dense in two_heads.layers()]
        if names.issuperset(heads):
            return ops.stack([model.get_layer(head).output for head in heads], axis=1)
    return model.get_layer("predictions").input


class DistillationView(FinishingView):
    """A view of a network that ends in `head_logits`, with a teacher in its loss.

    The loss is (1 - share) * cross-entropy with the labels + share * the teacher's. With two
    heads, the first has the labels and the second the teacher; evaluation takes their mean.

    Args:
        inputs, outputs: of the view.
        recipe: with `teacher_loss`, its share and temperature.
        teacher: None where the targets hold its logits: {"label": ..., "teacher": ...}.
        name: of the view.
    """

    def __init__(self, inputs, outputs, *, recipe: Recipe, teacher: Teacher | None, name: str):
        super().__init__(inputs, outputs, model_name=recipe.model, name=name)
        self.recipe = recipe
        # Tracked, so that compiled steps are handed its weights; `teacher_variables` tells them.
        self.teacher_model = None if teacher is None else teacher.model
        self.teacher = teacher
        if recipe.teacher_loss == "hard":
            self.teacher_loss = HardTeacherLoss()
        else:
            self.teacher_loss = SoftTeacherLoss(recipe.teacher_temperature)

    @property
    def teacher_variables(self) -> list[keras.Variable]:
        """Variables of the view that are not the network's."""
        return [] if self.teacher_model is None else self.teacher_model.variables

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        labels, targets = (y["label"], y["teacher"]) if isinstance(y, dict) else (y, None)
        if not training:
            return super().compute_loss(x, labels, _mean(y_pred), sample_weight, training)
        first, last = (y_pred[:, 0], y_pred[:, 1]) if _has_heads(y_pred) else (y_pred, y_pred)
        loss = super().compute_loss(x, labels, first, sample_weight, training)
        if targets is None:
            images = finish_images(x, self.recipe.model)
            targets = self.teacher.logits(restore_images(images, self.recipe.model))
        share = self.recipe.teacher_share
        return (1 - share) * loss + share * self.teacher_loss(targets, last)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        labels = y["label"] if isinstance(y, dict) else y
        return super().compute_metrics(x, labels, _mean(y_pred), sample_weight)


def _has_heads(logits):
    return len(logits.shape) == 3


def _mean(logits):
    return ops.mean(logits, axis=1) if _has_heads(logits) else logits
