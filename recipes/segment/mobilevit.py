"""DeepLabv3 on MobileViT for PASCAL VOC as published: 50 epochs of 512 px crops, batch 128.

    python recipes/train.py --recipe=segment/mobilevit --variant=S \\
        --data=folder:/data/VOCdevkit/VOC2012 --out=runs/deeplabv3_mobilevit_s \\
        initial_weights=mobilevit_s_rgb.weights.h5

Cost to expect: 50 passes over 1,464 images of VOC's list; the authors train on 10,582 with COCO's.
Published result: mIoU XXS 73.6, XS 77.1, S 79.1 %; S_stride8 79.4 %, of the later library.

The authors start from their classifiers of ImageNet and train on BGR; here images are RGB, so that
their weights are turned before (`recipes/convert_weights.py --swap_channels`). "S_stride8" is the
later library's: output stride 8, second head, crops that no class fills, more augmentation.

Reference: MobileViT (https://arxiv.org/abs/2110.02178), Section 4.3 and Appendix D.
"""

from keras_hybrid.training.recipe.segmentation import SegmentationRecipe

VARIANTS = ("XXS", "XS", "S", "S_stride8")


def get_recipe(variant: str = "S") -> SegmentationRecipe:
    """The recipe for a size of the paper's Table 6, or for the later library's."""
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}. Received: variant={variant!r}")
    common = {
        "model": f"MobileViT{variant.split('_')[0]}",
        "head": "deeplabv3",
        "resolution": 512,
        "epochs": 50,
        "learning_rate": 9e-4,
        "warmup_steps": 500,
        "warmup_learning_rate": 9e-5,
        "final_learning_rate": 1e-6,
        "schedule_unit": "epoch",
        "head_rate": 10.0,
        "weight_decay": 0.01,
        "decayed": ("all",),
        "ema_momentum": 1 - 5e-4,
        "ema_warmup": False,
    }
    if variant != "S_stride8":
        return SegmentationRecipe(
            **common,
            batch_size=128,
            model_options={"output_stride": 16},
            resize_scale=(0.5, 2.0),
            pad_crops=False,
        )
    return SegmentationRecipe(
        **common,
        batch_size=128,
        accumulation_steps=2,
        model_options={"output_stride": 8},
        head_options={"aspp_channels": 512, "rates": (12, 24, 36), "auxiliary": True},
        dropout_rate=0.0,
        stretch="bilinear_aligned",
        resize_scale=(0.5, 1.5),
        long_side=2.0,
        long_side_scaled=False,
        one_class_share=0.75,
        blur_probability=0.5,
        distortion_probability=0.5,
        rotation=10.0,
        evaluation_fit="short_side",
    )
