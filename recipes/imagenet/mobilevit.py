"""MobileViT on ImageNet as published: 300 epochs, crops of 160 to 320 px, global batch 1024.

    python recipes/train.py --recipe=imagenet/mobilevit --variant=XXS --data=imagenet2012 \\
        --out=runs/mobilevit_xxs

Cost to expect: 300 passes over 1.28 million images; --dry_run prints the steps.
Published top-1: XXS 69.0, XS 74.8, S 78.4 %.

Reference: MobileViT (https://arxiv.org/abs/2110.02178), Section 4.1 and Appendix B.
"""

from keras_hybrid.training.recipe.recipe import Recipe

VARIANTS = ("XXS", "XS", "S")


def get_recipe(variant: str = "S") -> Recipe:
    """The recipe for a size of the paper's Table 4; all sizes share it."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    return Recipe(
        model=f"MobileViT{variant}",
        resolution=256,
        scales=(160, 192, 256, 288, 320),  # the paper's five, without 224
        epochs=300,
        batch_size=1024,
        reference_batch_size=1024,
        learning_rate=2e-3,
        warmup_steps=3000,  # the paper's and its configuration's; a later configuration has 20,000
        warmup_learning_rate=2e-4,
        final_learning_rate=2e-4,
        weight_decay=0.01,
        decayed=("all",),
        precision="auto",
        schedule_unit="epoch",
        interpolation="bilinear",
        crop_fraction=256 / 288,
        label_smoothing=0.1,
        ema_momentum=1 - 5e-4,
        ema_warmup=False,
        dropout_rate=0.1,
        model_options={"transformer_dropout_rate": 0.1},
    )
