"""MobileViT on a data set of your own, from published weights: 30 epochs at 256 px.

    python recipes/train.py --recipe=finetune/mobilevit --variant=XS --data=folder:/my/pictures \\
        --out=runs/pictures

From a model of your own: initial_weights=runs/a (a run's folder) or a file. A small data set may do
better with frozen_stages=2, batch_size=32 or no moving average (ema_momentum=none).
Cost to expect: 30 passes over the images; --dry_run prints the steps.
Published result: none of this kind.

The authors fine-tune for detection and segmentation only.

Reference: learning rate, weight decay, smoothing and moving average are the authors' for detection
(MobileViT, https://arxiv.org/abs/2110.02178, Section 4.2.1); epochs and layer-wise decay those of
ConvNeXt's fine-tuning (https://arxiv.org/abs/2201.03545, Table 5).
"""

from keras_hybrid.training.recipe.recipe import Recipe

VARIANTS = ("XXS", "XS", "S")


def get_recipe(variant: str = "S") -> Recipe:
    """The recipe for a size of the paper's Table 4."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    return Recipe(
        model=f"MobileViT{variant}",
        initial_weights="imagenet",
        resolution=256,
        epochs=30,
        batch_size=128,
        learning_rate=9e-4,
        layer_decay=0.8,
        warmup_epochs=1,
        final_learning_rate=1e-6,
        weight_decay=0.01,
        label_smoothing=0.1,
        ema_momentum=1 - 5e-4,
        crop_area=(0.25, 1.0),
    )
