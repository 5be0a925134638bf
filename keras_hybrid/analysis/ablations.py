"""The papers' ablation tables, row by row: the builder's options and the paper's own figures."""

from dataclasses import dataclass, field

from keras_hybrid.did_you_mean import suggestion


@dataclass(frozen=True)
class AblationRow:
    """A row of an ablation table.

    Attributes:
        label: the paper's words.
        options: of the builder.
        top1: the paper's accuracy on ImageNet in per cent; None where it gives none.
        parameters: the paper's, in millions.
        multiply_adds: the paper's, in millions.
        latency_ms: the paper's, on an iPhone 13.
        note: what else the paper says.
    """

    label: str
    options: dict[str, object] = field(hash=False)
    top1: float | None = None
    parameters: float | None = None
    multiply_adds: float | None = None
    latency_ms: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Ablation:
    """An ablation table.

    Attributes:
        title: what is varied, and where the paper reports it.
        model: the builder that the paper varies.
        rows: in the paper's order.
    """

    title: str
    model: str
    rows: tuple[AblationRow, ...]


def _table1(attention):
    # Half of stage 3 and all of stage 4; no RepCPE and no narrower queries at that point.
    return {
        "attention": attention,
        "attention_share": 0.5,
        "query_key_reduction": 1,
        "ffn_expansion": 4,
        "position_encoding": False,
    }


def _table7(share, attention="sha", stage4=False):
    return {
        "attention": attention,
        "attention_share": share,
        "stage4_attention": stage4,
        "query_key_reduction": 1,
        "ffn_expansion": 4,
        "position_encoding": False,
    }


ABLATIONS = {
    "mobile_former/table5": Ablation(
        "Former, bridge and DY-ReLU (Mobile-Former, Table 5)",
        "MobileFormer294M",
        (
            AblationRow("Mobile (using ReLU)", {"former": False}, 74.2, 6.1, 259),
            AblationRow("+ Former and Bridge", {"dynamic_relu": False}, 76.8, 10.1, 290),
            AblationRow("+ DY-ReLU in Mobile", {}, 77.8, 11.4, 294),
        ),
    ),
    "mobile_former/table6": Ablation(
        "Kernel size of the depthwise convolutions in Mobile (Mobile-Former, Table 6)",
        "MobileFormer294M",
        (
            AblationRow("3x3", {"kernel_size": 3}, 77.8, 11.4, 294),
            AblationRow("5x5", {"kernel_size": 5}, 77.9, 11.5, 332),
        ),
    ),
    "mobile_former/table7": Ablation(
        "Number of tokens (Mobile-Former, Table 7)",
        "MobileFormer294M",
        (
            AblationRow("1 token", {"num_tokens": 1}, 77.1, 11.4, 269),
            AblationRow("3 tokens", {"num_tokens": 3}, 77.6, 11.4, 279),
            AblationRow("6 tokens", {"num_tokens": 6}, 77.8, 11.4, 294),
            AblationRow("9 tokens", {"num_tokens": 9}, 77.7, 11.4, 309),
        ),
    ),
    "mobile_former/table8": Ablation(
        "Dimension of the tokens (Mobile-Former, Table 8)",
        "MobileFormer294M",
        (
            AblationRow("dimension 64", {"token_dim": 64}, 76.8, 7.3, 277),
            AblationRow("dimension 128", {"token_dim": 128}, 77.3, 9.1, 284),
            AblationRow("dimension 192", {"token_dim": 192}, 77.8, 11.4, 294),
            AblationRow("dimension 256", {"token_dim": 256}, 77.8, 14.3, 308),
            AblationRow("dimension 320", {"token_dim": 320}, 77.6, 17.9, 325),
        ),
    ),
    "mobile_former/table9": Ablation(
        "Multi-head attention and FFN (Mobile-Former, Table 9)",
        "MobileFormer294M",
        (
            AblationRow("MHA, FFN", {}, 77.8, 11.4, 294),
            AblationRow("MHA, no FFN", {"ffn": False}, 77.5, 9.8, 284),
            AblationRow("MLP, FFN", {"attention": "mlp"}, 77.3, 10.5, 284),
        ),
    ),
    "iformer/table1": Ablation(
        "Type of attention (iFormer, Table 1 and Section 3.3)",
        "IFormerM",
        (
            AblationRow("MHA", _table1("mha"), 79.9, latency_ms=1.40),
            AblationRow("SHA", _table1("sha"), 79.8, latency_ms=1.12),
            AblationRow("SHMA", _table1("shma"), 80.4, latency_ms=1.15),
        ),
    ),
    "iformer/table6": Ablation(
        "Activation and norm in SHMA (iFormer, Table 6)",
        "IFormerM",
        (
            AblationRow(
                "SiLU + Post-BN",
                {"attention_activation": "silu", "attention_norm": "batch"},
                None,
                8.9,
                1600,
                1.10,
                "diverged",
            ),
            AblationRow(
                "SiLU + Pre-LN",
                {"attention_activation": "silu", "attention_norm": "layer"},
                80.3,
                8.9,
                1640,
                1.17,
            ),
            AblationRow(
                "Sigmoid + Post-BN",
                {"attention_activation": "sigmoid", "attention_norm": "batch"},
                80.4,
                8.9,
                1600,
                1.10,
            ),
        ),
    ),
    "iformer/table7": Ablation(
        "Share of stage 3 that is attention (iFormer, Table 7)",
        "IFormerM",
        (
            AblationRow("Baseline", _table7(0.0), 79.4, 9.4, 1760, 1.00),
            AblationRow("22 % of stage 3 SHA", _table7(0.22), 79.5, 9.1, 1724, 1.02),
            AblationRow("22 % of stage 3 SHMA", _table7(0.22, "shma"), 79.6, 9.2, 1739, 1.04),
            AblationRow("50 % of stage 3 SHA", _table7(0.5), 79.5, 8.8, 1689, 1.04),
            AblationRow("50 % of stage 3 SHMA", _table7(0.5, "shma"), 79.8, 8.9, 1712, 1.07),
            AblationRow("78 % of stage 3 SHA", _table7(0.78), 79.3, 8.3, 1635, 1.12),
            AblationRow("78 % of stage 3 SHMA", _table7(0.78, "shma"), 79.6, 8.5, 1685, 1.17),
            AblationRow("100 % of stage 3 SHA", _table7(1.0), 78.1, 7.9, 1599, 1.17),
            AblationRow("100 % of stage 3 SHMA", _table7(1.0, "shma"), 79.0, 8.3, 1665, 1.25),
            # The paper's words are "100 % of stage 3"; its text and multiply-adds say half of it.
            AblationRow(
                "50 % of stage 3 and stage 4 SHMA",
                _table7(0.5, "shma", True),
                80.4,
                10.0,
                1792,
                1.15,
            ),
        ),
    ),
    "mobilevit/patch_size": Ablation(
        "Patch size (MobileViT, ablation of the patch size)",
        "MobileViTS",
        (
            AblationRow("2x2 patches", {"patch_size": 2}),
            AblationRow("4x4 patches", {"patch_size": 4}),
        ),
    ),
}


def find_ablation(name: str) -> Ablation:
    """An ablation table by name.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    if name not in ABLATIONS:
        hint = suggestion(name, ABLATIONS)
        raise ValueError(
            f"There is no ablation table of that name; there are {', '.join(ABLATIONS)}.{hint} "
            f"Received: name={name!r}"
        )
    return ABLATIONS[name]
