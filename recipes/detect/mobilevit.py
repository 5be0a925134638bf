"""SSDLite on MobileViT for COCO as published: 200 epochs of 320 px, batch 128.

    python recipes/train.py --recipe=detect/mobilevit --variant=S --data=coco/2017 \\
        --out=runs/ssdlite_mobilevit_s initial_weights=mobilevit_s_rgb.weights.h5

Cost to expect: 200 passes over 117,266 images with objects; --dry_run prints the steps.
Published result: AP XXS 19.9, XS 24.8, S 27.7 %.

The authors start from their classifiers of ImageNet and train on BGR; here images are RGB, so that
their weights are turned before (`recipes/convert_weights.py --swap_channels`).

Reference: MobileViT (https://arxiv.org/abs/2110.02178), Section 4.2 and Appendix D; what these
leave open is the authors' configuration.
"""

from keras_hybrid.training.recipe.detection import DetectionRecipe

VARIANTS = ("XXS", "XS", "S")


def get_recipe(variant: str = "S") -> DetectionRecipe:
    """The recipe for a size of the paper's Table 1."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    return DetectionRecipe(
        model=f"MobileViT{variant}",
        model_options={"transformer_dropout_rate": 0.05 if variant == "XXS" else 0.1},
        head="ssdlite",
        resolution=320,
        epochs=200,
        batch_size=128,
        learning_rate=9e-4,
        warmup_steps=500,
        warmup_learning_rate=9e-5,
        final_learning_rate=1e-6,
        precision="auto",
        schedule_unit="epoch",
        weight_decay=0.01,
        decayed=("all",),
        ema_momentum=1 - 5e-4,
        ema_warmup=False,
        crops=True,
        distortion_probability=0.5,
        empty_images=False,
    )
