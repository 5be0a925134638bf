"""The grammar of layer names, and that nobody else makes or reads them."""

import re
from pathlib import Path

import pytest

from keras_hybrid.layer_names import LayerName, is_layer_name, part_of_layer, stage_of_layer

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "keras_hybrid"
# A stage's number written into a name or a pattern.
STAGE = re.compile(r"""["']\^?\(?(?:stem\|)?stage(?:\\d|\(|\[|\{)""")
FAMILIES = re.compile(
    r"""\bfamily(?:\.name)?\s*(?:==|!=|\bin\b)\s*[("'\[{]|["'](?:iformer|mobile_former|mobilevit)["']\s*:"""
)


@pytest.mark.parametrize(
    ("name", "expected", "part", "stage"),
    [
        (
            "stage3_block1_former_query",
            LayerName("stage", 3, 1, "former_query"),
            "Former",
            "stage3",
        ),
        (
            "stage10_block12_x",
            LayerName("stage", 10, 12, "x"),
            "convolution blocks",
            "stage10",
        ),
        (
            "stage2_downsample_norm",
            LayerName("stage", 2, None, "downsample_norm"),
            "convolution blocks",
            "stage2",
        ),
        ("stage3_block1", LayerName("stage", 3, 1), "convolution blocks", "stage3"),
        ("stem_conv1", LayerName("stem", words="conv1"), "stem", "stem"),
        ("tokens", LayerName("tokens"), "Former", "tokens"),
        (
            "final_mobile_to_former_gate",
            LayerName("final", words="mobile_to_former_gate"),
            "Mobile->Former",
            "final",
        ),
        ("head_fc1_norm", LayerName("head", words="fc1_norm"), "head", "head"),
        ("predictions", LayerName("predictions"), "head", "head"),
        ("rescaling_1", LayerName("rescaling", words="1"), "preprocessing", None),
    ],
)
def test_names_are_taken_apart_and_put_together(name, expected, part, stage):
    assert LayerName.parse(name) == expected
    assert str(expected) == name
    assert (part_of_layer(name), stage_of_layer(name)) == (part, stage)


@pytest.mark.parametrize(
    "name", ["image", "headless", "stagex", "stage2b", "xstage2", "conv2d_1", ""]
)
def test_other_names_are_none(name):
    assert LayerName.parse(name) is None and not is_layer_name(name)
    assert part_of_layer(name) is None and stage_of_layer(name) is None


def test_what_encloses_a_layer():
    assert LayerName.parse("stage3_block1_former_query").enclosing == "stage3_block1"
    assert LayerName.parse("stage3_downsample").enclosing == "stage3"
    assert LayerName.in_block(2, 0, "unfold").enclosing == str(LayerName.in_block(2, 0))


def sources():
    return [path for path in PACKAGE.rglob("*.py") if path.name != "layer_names.py"]


def test_nobody_else_makes_or_reads_names_of_stages():
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sources()
        for line in path.read_text().splitlines()
        if STAGE.search(line)
    ]
    assert found == []
    for line in (
        r'x = re.compile(r"stage(\d+)_block")',
        'f"stage{stage}_block"',
        r'"stem|stage\d+"',
    ):
        assert STAGE.search(line), line


def test_general_code_asks_the_family_and_not_for_its_name():
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sources()
        if "families" not in path.parts
        for line in path.read_text().splitlines()
        if FAMILIES.search(line)
    ]
    assert found == []
    for line in ('if family == "iformer":', 'x = {"iformer": 1}', 'if family in ("a",):'):
        assert FAMILIES.search(line), line
