"""iFormer on ImageNet, distilled: two heads, one for labels and one for a teacher's classes.

    python recipes/train.py --recipe=distill/iformer --variant=M --data=imagenet2012 \\
        --out=runs/iformer_m_distilled

300 epochs (L2: 450) at 224 px, global batch 4096; a machine too small for the global batch adds
accumulation_steps=16 or more. Any classifier teaches: teacher=ConvNeXtLarge, teacher=IFormerL,
teacher=regnety_16gf.keras teacher_preprocessing=..., teacher=runs/big.
Cost to expect: 300 or 450 passes over 1.28 million images, each also through the teacher;
teacher_cache=cache mixup=0 cutmix=0 asks it only once an image, with another result than published.
Published top-1: M 81.1, L 82.7, L2 83.9 % (without distillation M 80.4, L 81.9).

Reference: iFormer (https://arxiv.org/abs/2501.15369), Section 4.2; DeiT
(https://arxiv.org/abs/2012.12877), Section 4.
"""

from keras_hybrid.training.recipe.recipe import Recipe

VARIANTS = ("T", "S", "M", "L", "L2")


def get_recipe(variant: str = "M") -> Recipe:
    """The recipe for a column of the paper's Table 15; T and S were not published distilled."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    return Recipe(
        model=f"IFormer{variant}",
        model_options={"distillation": True},
        # Differs from the paper: RegNetY-16GF (82.9 %), which Keras does not have with weights.
        teacher="ConvNeXtSmall",
        teacher_loss="hard",
        teacher_share=0.5,
        resolution=224,
        epochs=450 if variant == "L2" else 300,
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
    )
