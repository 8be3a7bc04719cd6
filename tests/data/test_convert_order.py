"""The label of each class, and the messages when another order may have been meant."""

import random

import pytest

from harmonizer.data.class_names import check_imagenet_order, imagenet_classes
from harmonizer.data.convert.cli import main
from harmonizer.data.shards.manifest import read_manifest
from harmonizer.evaluation.model_spec import resolve_model
from harmonizer.models import build_model

IDENTIFIERS = [name.split()[0] for name in imagenet_classes()]
WORDS = [name.split(" ", 1)[1] for name in imagenet_classes()]


@pytest.fixture
def label_of(encode, tmp_path, capsys, read_shards):
    """Return a function that converts folders of the given names and returns folder -> label and output."""

    def run(names, *options):
        for name in names:
            (tmp_path / "images" / name).mkdir(parents=True)
            (tmp_path / "images" / name / "x.png").write_bytes(encode(8, 8, kind="PNG"))
        out = tmp_path / "out"
        arguments = ["--workers", "1", "--out", str(out), *(str(option) for option in options)]
        status = main([str(tmp_path / "images"), *arguments])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        labels = {key.removesuffix("-x"): int(sample["cls"]) for key, sample in read_shards(out).items()}
        assert read_manifest(out).samples == len(names)
        return labels, captured.out

    return run


def test_a_thousand_numbered_folders_keep_their_numbers(label_of):
    names = [str(number) for number in range(1000)]
    labels, said = label_of(random.Random(0).sample(names, 1000))
    assert labels == {name: int(name) for name in names}
    assert "in the order of their numbers, which are the labels; --classes imagenet names them" in said


def test_numbers_with_gaps_become_labels_without_gaps(label_of):
    labels, said = label_of(["1", "10", "9"])
    assert labels == {"1": 0, "9": 1, "10": 2}
    assert "labels count from 0 without gaps, so 1 is label 0; --classes FILE gives another order" in said


@pytest.mark.parametrize("names", [["0", "7", "999"], ["000", "007", "999"]])
def test_numbered_folders_can_be_imagenet_labels(names, label_of, tmp_path):
    labels, said = label_of(names, "--classes", "imagenet")
    assert labels == {name: int(name) for name in names}
    assert "1000 classes in ImageNet's order" in said
    assert read_manifest(tmp_path / "out").classes == imagenet_classes()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["class1", "class2", "class10"], "in alphabetical order, class10 before class2; --classes FILE"),
        (["ant", "Bee", "cat"], "in alphabetical order, Bee before ant; --classes FILE"),
        (["ant", "bee"], "2 classes in alphabetical order\n"),
        (IDENTIFIERS[5:8], "3 of ImageNet's classes, labels from 0; --classes imagenet gives them ImageNet's labels"),
    ],
)
def test_names_sort_alphabetically_and_doubts_are_reported(names, message, label_of):
    labels, said = label_of(names)
    assert labels == {name: label for label, name in enumerate(sorted(names))}
    assert message in said


def test_a_folder_without_images_is_not_a_class(label_of, tmp_path):
    (tmp_path / "images" / "1").mkdir(parents=True)
    labels, said = label_of(["0", "2"])
    assert labels == {"0": 0, "2": 1}
    assert f"1 folders without images are not counted as classes; first {tmp_path / 'images' / '1'}" in said
    assert "so 2 is label 1" in said


@pytest.mark.parametrize("names", [["0", "1000"], ["0", "00"], ["0", "cat"]])
def test_a_folder_outside_the_given_classes_is_refused(names, convert, encode, tmp_path):
    for name in names:
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "x.jpg").write_bytes(encode())
    status, message = convert(tmp_path / "images", "--out", tmp_path / "out", "--classes", "imagenet")
    assert (status, "is not one of the 1000 classes of --classes" in message) == (1, True)


def test_an_ambiguous_label_is_refused(convert, encode, tmp_path):
    (tmp_path / "x.jpg").write_bytes(encode())
    (tmp_path / "table.csv").write_text("image,label\nx.jpg,10\n")
    (tmp_path / "names").write_text("\n".join(sorted(str(number) for number in range(11))))
    command = (tmp_path / "table.csv", "--out", tmp_path / "out", "--classes")
    status, message = convert(*command, tmp_path / "names")
    assert (status, "label 10 is ambiguous: the class of that name is number 2;" in message) == (1, True)
    assert convert(*command, "11") == (0, "")


@pytest.mark.parametrize(
    ("classes", "doubt"),
    [
        (imagenet_classes(), None),
        (IDENTIFIERS, None),
        (WORDS, None),
        ([name.replace(" ", "_").title() for name in WORDS], None),
        ([str(number) for number in range(1000)], "numbers, taken for ImageNet's labels, with 0 as 'n01440764 tench'"),
        ([f"thing {number}" for number in range(1000)], "only 0 of the data's 1000 class names are known"),
    ],
)
def test_doubts_about_imagenets_order_are_reported(classes, doubt):
    found = check_imagenet_order(classes)
    assert found is None if doubt is None else doubt in found


@pytest.mark.parametrize(
    "classes",
    [
        sorted(str(number) for number in range(1000)),
        sorted(WORDS),
        [*IDENTIFIERS[1:], IDENTIFIERS[0]],
        [IDENTIFIERS[1], IDENTIFIERS[0], *imagenet_classes()[2:]],
    ],
)
def test_classes_in_another_order_are_refused(classes):
    with pytest.raises(ValueError, match=r"not in .*order.*convert the data again with --classes imagenet"):
        resolve_model(model="resnet18", pretrained=True).build(classes)


def test_an_assumed_class_order_is_reported(monkeypatch, capsys):
    built = build_model("test_resnet", num_classes=1000, image_size=32)
    monkeypatch.setattr("harmonizer.training.module.build_model", lambda *_, **__: built)  # no download
    spec = resolve_model(model="resnet18", pretrained=True)
    spec.build(imagenet_classes())
    assert capsys.readouterr().out == ""
    spec.build([str(number) for number in range(1000)])
    assert "resnet18: the data's classes are numbers, taken for ImageNet's labels" in capsys.readouterr().out
