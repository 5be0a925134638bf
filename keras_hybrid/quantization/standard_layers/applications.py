"""Layers that networks of `keras.applications` bring along, private to Keras: known by name."""

from keras import layers

from keras_hybrid.keras_private import is_of_applications
from keras_hybrid.layers import LayerScale
from keras_hybrid.quantization.standard_layers.steps import step_of
from keras_hybrid.surgery.editable_model import Step


def layer_scale(step: Step) -> list[Step] | None:
    """ConvNeXt's factors of channels, as this package's, which go into the kernel before."""
    (gamma,) = step.operation.get_weights() or (None,)
    if gamma is None or gamma.ndim != 1:
        return None
    return [step_of(LayerScale(name=step.name), step.inputs[0], {"gamma": gamma})]


def stochastic_depth(step: Step) -> list[Step]:
    """ConvNeXt's drop path, which does nothing in inference."""
    return [step_of(layers.Identity(name=step.name), step.inputs[0])]


def scaled_residual(step: Step) -> list[Step]:
    """InceptionResNet's sum of a shortcut and a scaled branch."""
    shortcut, branch = step.inputs
    scaled = layers.Rescaling(step.setting("scale"), name=f"{step.name}_scaled")
    scaled = step_of(scaled, branch)
    return [scaled, step_of(layers.Add(name=step.name), [shortcut, scaled.output])]


BY_NAME = {
    "LayerScale": layer_scale,
    "StochasticDepth": stochastic_depth,
    "CustomScaleLayer": scaled_residual,
}


def rewrite_of(layer_class: type):
    """The function that rewrites a layer of `keras.applications`; None for other layers."""
    return BY_NAME.get(layer_class.__name__) if is_of_applications(layer_class) else None
