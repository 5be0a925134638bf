"""Mobile-Former on a data set of your own, from published weights: 30 epochs at 224 px.

    python recipes/train.py --recipe=finetune/mobile_former --variant=96M \\
        --data=folder:/my/pictures --out=runs/pictures

From a model of your own: initial_weights=runs/a (a run's folder) or a file. A small data set may do
better with frozen_stages=2, batch_size=32 or fewer augmentations.
Cost to expect: 30 passes over the images; --dry_run prints the steps.
Published result: none of this kind.

The authors fine-tune for detection only, and give no rate.

Reference: weight decay and dropout are the variant's own (Mobile-Former,
https://arxiv.org/abs/2108.05895, Table 11); the learning rate is the one that iFormer's authors
fine-tune with; epochs, layer-wise decay, augmentation and smoothing are those of ConvNeXt's
fine-tuning (https://arxiv.org/abs/2201.03545, Table 5).
"""

from keras_hybrid.training.recipe.recipe import Recipe

# weight decay, dropout
TABLE_11 = {
    "26M": (0.08, 0.1),
    "52M": (0.10, 0.2),
    "96M": (0.10, 0.2),
    "151M": (0.10, 0.2),
    "214M": (0.15, 0.2),
    "294M": (0.20, 0.3),
    "508M": (0.20, 0.3),
}
VARIANTS = tuple(TABLE_11)


def get_recipe(variant: str = "294M") -> Recipe:
    """The recipe for a column of the paper's Table 10."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    weight_decay, dropout = TABLE_11[variant]
    return Recipe(
        model=f"MobileFormer{variant}",
        initial_weights="imagenet",
        resolution=224,
        epochs=30,
        batch_size=128,
        learning_rate=2e-4,
        layer_decay=0.8,
        warmup_epochs=1,
        final_learning_rate=1e-6,
        weight_decay=weight_decay,
        label_smoothing=0.1,
        dropout_rate=dropout,
        randaugment_magnitude=9.0,
        randaugment_std=0.5,
        erase_probability=0.25,
        crop_area=(0.25, 1.0),
    )
