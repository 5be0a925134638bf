"""iFormer (ICLR 2025) on ImageNet as published: 300 epochs at 224 px, global batch 4096.

    python recipes/train.py --recipe=imagenet/iformer --variant=M --data=imagenet2012 \\
        --out=runs/iformer_m

A machine too small for the global batch adds accumulation_steps=16 or more.
Cost to expect: 300 passes over 1.28 million images; --dry_run prints the steps.
Published top-1 without distillation: T 74.1, S 78.8, M 80.4, L 81.9, H 84.8 %.

Reference: iFormer (https://arxiv.org/abs/2501.15369), Section 4.1.
"""

import dataclasses

from keras_hybrid.training.recipe.recipe import Recipe

VARIANTS = ("T", "S", "M", "L", "L2", "H")


def get_recipe(variant: str = "M") -> Recipe:
    """The recipe for a column of the paper's Table 15."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    recipe = Recipe(
        model=f"IFormer{variant}",
        resolution=224,
        epochs=300,
        batch_size=4096,
        reference_batch_size=4096,
        learning_rate=4e-3,
        warmup_epochs=20,
        final_learning_rate=1e-6,
        precision="auto",
        weight_decay=0.05,
        label_smoothing=0.1,
        randaugment_magnitude=9.0,
        randaugment_std=0.5,
        color_jitter=0.4,
        mixup=0.8,
        cutmix=1.0,
        cutmix_probability=0.5,
        erase_probability=0.25,
        interpolation="bicubic",
        randaugment_interpolation="bicubic",
        drop_path_rate=0.1 if variant == "L" else 0.0,
    )
    if variant == "H":
        # The batch of this rate is not stated; 8,192 would be linear.
        return dataclasses.replace(
            recipe,
            decayed=("kernels", "layer_scales"),
            learning_rate=8e-3,
            drop_path_rate=0.6,
            ema_momentum=0.9999,
            ema_warmup=False,
        )
    return recipe
