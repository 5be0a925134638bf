"""Mobile-Former on ImageNet as published: 450 epochs and 10 of cool-down at 224 px, batch 1024.

    python recipes/train.py --recipe=imagenet/mobile_former --variant=294M --data=imagenet2012 \\
        --out=runs/mobile_former_294m

A machine too small for the global batch adds accumulation_steps=8 or more.
Cost to expect: 460 passes over 1.28 million images; --dry_run prints the steps.
Published top-1: 26M 64.0, 52M 68.7, 96M 72.8, 151M 75.2, 214M 76.7, 294M 77.9, 508M 79.3 %.

The paper and the authors' command line give Table 11 and RandAugment (`rand-m9-mstd0.5`); what the
command does not say is the default of the program that it runs, timm 0.3.4's: warm-up, floor and
cool-down, a schedule by epoch that is counted from the run's start, label smoothing, crops by
bilinear or bicubic at random, weight decay of the tokens, mixup drawn by each device's 128 images.

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
        epochs=460,
        warmup_epochs=3,
        warmup_learning_rate=1e-4,
        final_learning_rate=1e-5,
        cooldown_epochs=10,
        precision="auto",
        schedule_unit="epoch",
        cosine_from="run",
        batch_size=1024,
        reference_batch_size=1024,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        decayed=("kernels", "tokens"),
        label_smoothing=0.1,
        dropout_rate=dropout,
        drop_path_rate=0.0,
        mixup=mixup,
        mixing_group=128,
        erase_probability=erase,
        randaugment_magnitude=magnitude,
        randaugment_std=0.5,
        randaugment_increasing=False,
        randaugment_interpolation="random",
        interpolation="random",
    )
