"""A trained model as the leanest model that computes the same."""

import keras

from keras_hybrid.surgery.pipelines import FUSE, edited


def fuse(model: keras.Model) -> keras.Model:
    """Folds what inference can compute once and for all into the weights.

    Image scaling, batch norm and layer scale go into the convolutions beside them, RepCPE's
    residual into its kernel, two distillation heads into one, the attention scale into a
    projection, layer norm's scale and offset into what follows and its mean into what comes
    before, hard sigmoids into clipped dense layers, image-independent work on tokens into
    constants, channel shuffles into the order of weights; drop path, dropout and augmentation go.

    Models inside of the model are taken apart, LoRA's adapters are merged, and what was trained in
    half precision comes out in float32. A layer that is called several times stays one where all
    its calls are folded alike.

    Args:
        model: a functional model, of this package or of standard layers; it is left as it is.

    Returns: a new model with the same inputs and outputs, for inference: training it would not
    be training the same network.

    Raises:
        ValueError: for a model that is not functional, and for layers that `model.quantize` made.
    """
    return edited(model, FUSE).to_model()
