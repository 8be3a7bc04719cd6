"""Random class folders with random faults: each sample is converted once, upright and labelled, or reported."""

import csv
import io
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harmonizer.data.class_names import imagenet_classes
from harmonizer.data.convert.cli import main
from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.transforms import JointTransform

SIDE = 32
SHOWN = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
IDENTIFIERS = [name.split()[0] for name in imagenet_classes()]
KINDS = {"jpg": "JPEG", "JPEG": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP"}
FAULTS = ("loop", "parent", "nowhere", "outside", "again", "other class", "pipe", "eps", "empty", "cut", "hidden")

class_names = st.one_of(
    st.sets(st.integers(0, 1200).map(str), min_size=1, max_size=4),
    st.sets(st.sampled_from(["ant", "Bee", "class2", "class10", "x.y", "7 up"]), min_size=1, max_size=4),
    st.sets(st.sampled_from(IDENTIFIERS), min_size=1, max_size=4),
)
sample = st.tuples(st.integers(0, 3), st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(SHOWN)), st.booleans())


def draw(number: int, kind: str, orientation: int) -> bytes:
    """Encode an image whose upper left quarter, as stored, has a unique grey level."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[: SIDE // 2, : SIDE // 2] = level(number)
    exif = Image.Exif()
    exif[0x112] = orientation
    buffer = io.BytesIO()
    more = {} if kind == "BMP" else {"exif": exif}
    Image.fromarray(pixels).save(buffer, kind, **more, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def level(number: int) -> int:
    return 60 + 15 * number


def add_fault(kind: str, number: int, folder: Path, outside: Path) -> Path | None:
    """Add a faulty or hidden entry to a class folder; return the path that must be reported, or None."""
    place = folder / f"t{number}.jpg"
    others = sorted(path for path in folder.glob("s*") if path.suffix)
    if kind in ("loop", "parent"):
        place.symlink_to("." if kind == "loop" else "..")
    elif kind == "nowhere":
        place.symlink_to("absent.jpg")
    elif kind == "outside":
        place.symlink_to(outside)
    elif kind == "again":
        place.symlink_to(others[0].name if others else "..")
    elif kind == "other class":
        place = folder.with_name(f"zz{number}")
        place.symlink_to(folder.name)
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "hidden":
        (folder / f"._t{number}.jpg").write_bytes(b"resource fork")
        return None
    else:
        place.write_bytes({"eps": b"%!PS-Adobe-3.0 EPSF-3.0\n", "empty": b""}.get(kind, draw(0, "JPEG", 1)[:150]))
    return place


@settings(max_examples=40)
@given(
    names=class_names,
    samples=st.lists(sample, min_size=1, max_size=12),
    faults=st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 3)), max_size=4),
    encode=st.sampled_from(["keep", "png"]),
)
def test_each_sample_is_converted_once_or_reported(names, samples, faults, encode):
    with tempfile.TemporaryDirectory() as root:
        source, folders, expected = Path(root, "images"), sorted(names), {}
        (Path(root) / "outside.jpg").write_bytes(draw(0, "JPEG", 1))
        for number, (which, suffix, orientation, pooled) in enumerate(samples):
            name, kind = folders[which % len(folders)], KINDS[suffix]
            place = source / name / f"s{number}.{suffix}"
            place.parent.mkdir(parents=True, exist_ok=True)
            content = draw(number, kind, orientation)
            if pooled:  # in a hidden folder, with a link to it
                pool = source / ".pool" / f"{number}.bin"
                pool.parent.mkdir(exist_ok=True)
                pool.write_bytes(content)
                place.symlink_to(Path("..", ".pool", pool.name))
            else:
                place.write_bytes(content)
            expected[level(number)] = (name, SHOWN[1 if kind == "BMP" else orientation])
        used = sorted({name for name, _ in expected.values()})
        wrong = {
            add_fault(kind, number, source / used[which % len(used)], Path(root, "outside.jpg"))
            for number, (kind, which) in enumerate(faults)
        } - {None}
        status, said = convert(source, Path(root, "out"), "--encode", encode)
        assert status == (3 if wrong else 0), said
        assert skipped(Path(root, "out")) == {str(path) for path in wrong}
        ordered = sorted(used, key=int) if all(name.isdecimal() for name in used) else used
        assert shown(Path(root, "out")) == {
            grey: (ordered.index(name), corner) for grey, (name, corner) in expected.items()
        }
        turned = sum(kind != "bmp" and orientation > 1 for _, kind, orientation, _ in samples)
        assert (f"{turned} images are turned upright" in said) == (turned > 0)
        if wrong:  # by default, the error names one of them and nothing is written
            status, said = convert(source, Path(root, "none"), on_error="fail")
            assert status == 1
            assert any(str(path) in said for path in wrong), said
            assert not Path(root, "none").exists()


def convert(source: Path, out: Path, *options: str, on_error: str = "skip") -> tuple[int, str]:
    """Run the converter; return its exit status and its output."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = main([str(source), "--out", str(out), "--workers", "1", "--on-error", on_error, *options])
    assert "Traceback" not in said.getvalue()
    return status, said.getvalue()


def skipped(folder: Path) -> set[str]:
    """Return the files that a conversion listed as skipped."""
    if not (folder / "skipped.csv").exists():
        return set()
    with (folder / "skipped.csv").open() as file:
        listed = [row["file"] for row in csv.DictReader(file)]
    assert len(listed) == len(set(listed))
    return set(listed)


def shown(folder: Path) -> dict[int, tuple[int, tuple[int, int]]]:
    """Load each sample; return grey level -> (label, bright quarter as (lower, right))."""
    dataset = ShardDataset(folder, JointTransform(SIDE))
    found = {}
    for number in range(len(dataset)):
        item = dataset[SampleIndex(number, 0)]
        quarters = 255 * item.image.mean(0).reshape(2, SIDE // 2, 2, SIDE // 2)[:, 4:-4, :, 4:-4].mean((1, 3))
        lower, right = divmod(int(quarters.argmax()), 2)
        grey = 15 * round(float(quarters.max()) / 15)
        assert abs(float(quarters.max()) - grey) < 5
        assert grey not in found, "the same sample twice"
        found[grey] = item.label, (lower, right)
    return found
