"""Image files with an EXIF orientation, of another format, or far larger than they look."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps

from harmonizer.data import image as images
from harmonizer.data.dataset import DamagedSample, SampleIndex, ShardDataset
from harmonizer.data.image import MOST_PIXELS, ORIENTATION, SOURCE_FORMATS, decode_image, decode_rgb
from harmonizer.data.inspect import main
from harmonizer.data.shards.writer import write_shards
from harmonizer.data.transforms import JointTransform

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"
LOADS = pytest.mark.parametrize("library", ["simplejpeg", "Pillow"])


def corner(kind="JPEG", *, orientation=None, height=64, width=64):
    """Encode an image whose upper left quarter is white, with an EXIF orientation."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 255
    buffer, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x112] = orientation
    Image.fromarray(pixels).save(buffer, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def use(library, monkeypatch):
    if library == "Pillow":
        monkeypatch.setattr(images, "_is_plain_jpeg", lambda encoded: False)


def png(width, height, rows=b""):
    """Encode a grey PNG whose header states the given size, whatever its rows hold."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def folder_of(path, *samples):
    write_shards(samples, path, classes=("a",), maps="by hand")
    return path


# EXIF orientation -> position (lower, right) of the white quarter when a viewer shows the image.
SHOWN = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}


@LOADS
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_an_image_is_decoded_upright(orientation, kind, library, monkeypatch):
    use(library, monkeypatch)
    pixels = decode_rgb(corner(kind, orientation=orientation, height=32, width=64))
    assert pixels.shape == ((32, 64, 3) if orientation < 5 else (64, 32, 3))
    height, width = (length // 2 for length in pixels.shape[:2])
    quarters = pixels.reshape(2, height, 2, width, 3).mean((1, 3, 4))
    assert np.argwhere(quarters > 200).tolist() == [list(SHOWN[orientation])]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turned_images_equal_pillows_and_are_marked(kind):
    for orientation in SHOWN:
        encoded = corner(kind, orientation=orientation, height=32, width=64)
        found = decode_image(encoded, formats=SOURCE_FORMATS)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
        assert (found.info.get(ORIENTATION, 1), found.format) == (orientation, kind)
        buffer = io.BytesIO()
        found.save(buffer, "PNG")  # must not be turned again
        np.testing.assert_array_equal(decode_rgb(buffer.getvalue()), np.asarray(expected))


@LOADS
@pytest.mark.parametrize("block", [b"Exif\0\0" + bytes(30), b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 20])
def test_damaged_exif_is_ignored(block, library, monkeypatch):
    use(library, monkeypatch)
    plain = corner()
    tagged = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]
    np.testing.assert_array_equal(decode_rgb(tagged), decode_rgb(plain))


@LOADS
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_turned_image_stays_aligned_with_its_map(orientation, library, monkeypatch, tmp_path, capsys):
    use(library, monkeypatch)
    lower, right = SHOWN[orientation]
    human = np.zeros((2, 2), np.uint8)
    human[lower, right] = 255
    buffer = io.BytesIO()
    Image.fromarray(human.repeat(32, 0).repeat(32, 1)).save(buffer, "PNG")
    sample = {"__key__": "s", "jpg": corner(orientation=orientation), "cls": 0, "heatmap.png": buffer.getvalue()}
    folder = folder_of(tmp_path / "shards", sample)
    item = ShardDataset(folder, JointTransform(64))[SampleIndex(0, 0)]
    bright, important = item.image.mean(0) > 0.5, item.human_map > 0.5
    assert (bright & important).sum() / (bright | important).sum() > 0.99
    assert main([str(folder), "--images", "0"]) == 0
    assert ("turned      1 images" in capsys.readouterr().out) == (orientation > 1)


@pytest.mark.parametrize("member", ["jpg", "heatmap.png"])
def test_no_other_image_format_is_tried(member, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("started Ghostscript"))
    sample = {"__key__": "s", "jpg": corner(), "cls": 0, "heatmap.png": png(64, 64, bytes(65 * 64))} | {member: EPS}
    folder = folder_of(tmp_path / "shards", sample)
    with pytest.raises(DamagedSample, match=r"'s'.*cannot decode .*not an image in one of the formats JPEG, PNG, WEBP"):
        ShardDataset(folder, JointTransform(64))[SampleIndex(0, 0)]
    assert main([str(folder), "--sheet", str(tmp_path / "sheet.png")]) == 1
    assert f"'s' has a damaged .{member} (it is not an image" in capsys.readouterr().out


@pytest.mark.parametrize("member", ["jpg", "heatmap.png"])
def test_oversized_images_and_maps_are_refused(member, tmp_path):
    huge = png(1 << 14, 1 << 13)
    assert MOST_PIXELS < (1 << 14) * (1 << 13)
    sample = {"__key__": "s", "jpg": corner(), "cls": 0, "heatmap.png": png(64, 64, bytes(65 * 64))} | {member: huge}
    folder = folder_of(tmp_path / "shards", sample)
    with pytest.raises(DamagedSample, match=r"'s'.*16384x8192 pixels, expected at most"):
        ShardDataset(folder, JointTransform(64))[SampleIndex(0, 0)]


@pytest.mark.parametrize("filler", [b"\xff\xff\xe0\x00", b"\xff\xd0\xff\xe0"])
def test_fill_bytes_cannot_hide_the_size_of_a_jpeg(filler, monkeypatch):
    """After fill bytes and markers without content, libjpeg continues at another offset than the lengths state."""
    huge = corner().replace(b"\x08\x00\x40\x00\x40\x03", b"\x08\xff\x00\xff\x00\x03")
    assert huge != corner()
    gap = int.from_bytes(filler[2:], "big") - 2
    small = b"\xff\xc0\x00\x11\x08\x00\x08\x00\x08\x03" + bytes(9) + b"\xff\xda" + bytes(20)
    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", lambda *_: pytest.fail("decoded"))
    for encoded in (huge, huge[:2] + filler + bytes(gap) + small + huge[2:]):
        with pytest.raises(ValueError):
            decode_rgb(encoded)


def test_enlarging_a_narrow_image_is_bounded(tmp_path):
    narrow = png(1, 60_000, bytes(2 * 60_000))
    folder = folder_of(tmp_path / "shards", {"__key__": "s", "png": narrow, "cls": 0})
    with pytest.raises(DamagedSample, match=r"'s'.*1x60000 pixels is too narrow"):
        ShardDataset(folder, JointTransform(224))[SampleIndex(0, 0)]
    item = ShardDataset(folder, JointTransform(8))[SampleIndex(0, 0)]
    assert item.image.shape == (3, 8, 8)
