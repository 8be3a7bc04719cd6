"""Names, text, JSON and archives from untrusted files are checked before use."""

import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonizer.untrusted import LONGEST_NAME, check_zip, file_name, inside, parse_json, plain_text, safe_name

UNSAFE = [
    *("", ".", "..", "/", "/etc/passwd", "../x", "a/b", "a/../../b", "..\\x", "a\\b", ".bash_login", ".lock"),
    *("a\0b", "a\nb", "a\x1b[2Jb", "a\x7f", "x" * (LONGEST_NAME + 1), "\N{LATIN SMALL LETTER E WITH ACUTE}" * 128),
]


@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_leave_the_folder_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="expected a file name"):
        inside(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["000000.tar", "a b;c$(d)'.tar", "%2e%2e%2fx", "é.tar", "x" * LONGEST_NAME, "a..b", "\udcff"]
)
def test_safe_names_are_kept_unchanged(name, tmp_path):
    assert safe_name(name) == name
    assert inside(tmp_path, name) == tmp_path / name


@given(st.text())
def test_any_name_is_refused_or_stays_in_its_folder(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp()
    try:
        path = inside(folder, name)
    except ValueError:
        return
    assert path.resolve().parent == folder.resolve()
    assert path.name == name


@given(st.text(min_size=1), st.text(min_size=1))
def test_file_names_made_from_text_are_safe_and_unique(tmp_path_factory, text, other):
    inside(tmp_path_factory.getbasetemp(), file_name(text))
    assert file_name(text).isascii()
    assert len(file_name(text)) <= 109
    assert (file_name(text) == file_name(other)) == (text == other)


def test_a_label_cannot_take_the_folder_of_failures():
    assert file_name("failed") != "failed"


@pytest.mark.parametrize("value", [None, 3, ["a"], "", "a\nb", "\x1b[2J", "x" * 100_000])
def test_long_or_unprintable_text_is_refused(value):
    with pytest.raises(ValueError, match="label: expected a text of 1 to 500 characters") as error:
        plain_text(value, "label")
    assert len(str(error.value)) < 250


def test_deeply_nested_json_is_refused():
    assert parse_json("[" * 30 + "]" * 30)
    for depth in (33, 200, 5_000, 200_000):
        for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            with pytest.raises(ValueError, match="nested more than 32 levels deep"):
                parse_json(text)
    assert parse_json("[NaN]") != parse_json(json.dumps([1]))
    with pytest.raises(ValueError, match="NaN is not JSON"):
        parse_json("[NaN]", strict=True)


def test_compressed_or_oversized_archives_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    for kind, refused in ((zipfile.ZIP_STORED, False), (zipfile.ZIP_DEFLATED, True)):
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("data", bytes(1_000_000))
        if refused:
            with pytest.raises(ValueError, match="compressed"):
                check_zip(path)
        else:
            check_zip(path)
        with pytest.raises(ValueError, match="1000000 bytes, expected at most 999999"):
            check_zip(path, most=999_999)
    (tmp_path / "text").write_text("no archive")
    check_zip(tmp_path / "text")


def test_archives_with_overlapping_members_are_refused(tmp_path):
    """As in Fifield's "A better zip bomb": many entries of the directory share one piece of the file."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", bytes(100_000))
        for number in range(50):
            copy = zipfile.ZipInfo(f"copy-{number}")
            first = archive.filelist[0]
            copy.file_size, copy.compress_size, copy.CRC, copy.header_offset = 100_000, 100_000, first.CRC, 0
            archive.filelist.append(copy)
    with pytest.raises(ValueError, match="5100000 bytes, more than the file"):
        check_zip(path)
