"""Animate and inanimate classes, and tables that define them."""

import pytest

from harmonizer.data.demo.dataset import CLASSES
from harmonizer.results.categories import DEMO, category_of, imagenet_classes, read_categories


def test_default_categories_cover_imagenet_and_the_demo():
    assert DEMO == CLASSES
    known = read_categories(None)
    found = [category_of(name, known) for name in imagenet_classes()]
    assert found == ["animate"] * 398 + ["inanimate"] * 602
    assert [category_of(name, known) for name in CLASSES].count("animate") == 2
    assert category_of("n01440764 another spelling", known) == "animate"
    assert category_of("mine", known) == ""


def test_a_table_overrides_the_defaults(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("class,category\nmushroom,animate\nmine,inanimate\n")
    known = read_categories(path)
    assert [category_of(name, known) for name in ("mushroom", "mine", "fish")] == ["animate", "inanimate", "animate"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"class,kind\na,animate\n", "expected the columns class, category, category is missing"),
        (b"class,category\na,alive\n", "line 2: expected a class and animate or inanimate, got 'alive'"),
        (b"class,category\na,\n", "line 2: expected a class"),
        (b"class,category\na\n", "line 2: expected 2 cells"),
        (b"\xff\xfe", "expected CSV in UTF-8"),
    ],
)
def test_a_damaged_table_names_the_line(tmp_path, content, message):
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_categories(tmp_path / "mine.csv")
    assert "mine.csv" in str(error.value)
    with pytest.raises(FileNotFoundError, match="no table at"):
        read_categories(tmp_path / "nowhere.csv")
