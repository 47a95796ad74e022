"""Every example stands in the gallery once."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.host_only

ROOT = Path(__file__).parent.parent


def groups():
    """What the gallery's own table says, read without MkDocs, which need not be installed."""
    module = ast.parse((ROOT / "docs" / "hooks" / "gallery.py").read_text(encoding="utf-8"))
    (table,) = (
        node.value
        for node in module.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "GROUPS"
    )
    return ast.literal_eval(table)


def test_every_example_stands_in_the_gallery_once():
    shown = [name for names in groups().values() for name in names.split()]
    assert sorted(shown) == sorted(path.stem for path in ROOT.glob("examples/*.py"))


def test_pictures_are_of_examples_and_show_what_was_learned():
    pytest.importorskip("matplotlib", reason="pictures are drawn by it")
    from docs.hooks.gallery_pictures import PICTURES, drawn, little

    assert {*PICTURES} <= {path.stem for path in ROOT.glob("examples/*.py")}
    shortened = {name for name, one in PICTURES.items() if little(one.arguments) != one.arguments}
    assert shortened == {*PICTURES} - {"01_nand_gate"}
    picture = drawn("01_nand_gate")
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 5000
