"""iFormer on a data set of your own, from published weights: 30 epochs at 224 px.

    python recipes/train.py --recipe=finetune/iformer --variant=M --data=folder:/my/pictures \\
        --out=runs/pictures

From a model of your own: initial_weights=runs/a (a run's folder) or a file. A small data set may do
better with frozen_stages=2, batch_size=32 or fewer augmentations.
Cost to expect: 30 passes over the images; --dry_run prints the steps.
Published result: none of this kind.

The authors fine-tune for detection and segmentation only.

Reference: learning rate and weight decay are the authors' for detection (iFormer,
https://arxiv.org/abs/2501.15369, Section 4.3); epochs, layer-wise decay, augmentation and smoothing
are those of ConvNeXt's fine-tuning (https://arxiv.org/abs/2201.03545, Table 5).
"""

from keras_hybrid.training.recipe.recipe import Recipe

VARIANTS = ("T", "S", "M", "L", "L2", "H")


def get_recipe(variant: str = "M") -> Recipe:
    """The recipe for a column of the paper's Table 15."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    return Recipe(
        model=f"IFormer{variant}",
        initial_weights="imagenet",
        resolution=224,
        epochs=30,
        batch_size=128,
        learning_rate=2e-4,
        layer_decay=0.8,
        warmup_epochs=1,
        final_learning_rate=1e-6,
        weight_decay=0.05,
        label_smoothing=0.1,
        randaugment_magnitude=9.0,
        randaugment_std=0.5,
        erase_probability=0.25,
        crop_area=(0.25, 1.0),
        drop_path_rate=0.2 if variant == "H" else 0.0,
    )
