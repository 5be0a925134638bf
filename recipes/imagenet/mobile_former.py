"""Mobile-Former on ImageNet as published: 450 epochs at 224 px, global batch 1024.

    python recipes/train.py --recipe=imagenet/mobile_former --variant=294M --data=imagenet2012 \\
        --out=runs/mobile_former_294m

A machine too small for the global batch adds accumulation_steps=8 or more.
Cost to expect: 450 passes over 1.28 million images; --dry_run prints the steps.
Published top-1: 26M 64.0, 52M 68.7, 96M 72.8, 151M 75.2, 214M 76.7, 294M 77.9, 508M 79.3 %.

Reference: Mobile-Former (https://arxiv.org/abs/2108.05895), Section 5.1 and Table 11.
"""

from keras_hybrid.training.recipe.recipe import Recipe

# learning rate, weight decay, dropout, mixup, probability of erasing, m of RandAugment
TABLE_11 = {
    "26M": (8e-4, 0.08, 0.1, 0.2, 0.0, 9.0),
    "52M": (8e-4, 0.10, 0.2, 0.2, 0.0, None),
    "96M": (8e-4, 0.10, 0.2, 0.0, 0.0, 9.0),
    "151M": (9e-4, 0.10, 0.2, 0.2, 0.2, 9.0),
    "214M": (9e-4, 0.15, 0.2, 0.2, 0.2, 9.0),
    "294M": (1e-3, 0.20, 0.3, 0.2, 0.2, 9.0),
    "508M": (1e-3, 0.20, 0.3, 0.2, 0.2, 9.0),
}
VARIANTS = tuple(TABLE_11)


def get_recipe(variant: str = "294M") -> Recipe:
    """The recipe for a column of the paper's Table 10."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    learning_rate, weight_decay, dropout, mixup, erase, magnitude = TABLE_11[variant]
    return Recipe(
        model=f"MobileFormer{variant}",
        resolution=224,
        epochs=450,
        batch_size=1024,
        reference_batch_size=1024,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        dropout_rate=dropout,
        drop_path_rate=0.0,
        mixup=mixup,
        erase_probability=erase,
        randaugment_magnitude=magnitude,
        randaugment_std=0.5,
    )
