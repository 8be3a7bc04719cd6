import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from shard_data import write_folder
from tf_records import build_example, write_records

from harmonizer.data.convert.cli import main

# A deadline per example fails at random on a busy machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture
def folder(tmp_path):
    """Training shards of 8, 8 and 4 small images; the validation shards lie next to them."""
    return write_folder(tmp_path / "shards", train=20, val=6, samples_per_shard=8) / "train"


@pytest.fixture(scope="session")
def golden_clickme():
    """Values recorded from the published TensorFlow code."""
    with np.load(GOLDEN / "clickme.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def golden_tfrecord():
    """Five records in ClickMe's public layout, with synthetic images."""
    return GOLDEN / "clickme_1.tfrecords"


@pytest.fixture
def convert(capsys):
    """Return a function that runs the converter in this process and returns its exit status and standard error."""

    def run(*arguments):
        status = main([str(argument) for argument in (*arguments, *([] if "--workers" in arguments else WORKERS))])
        return status, capsys.readouterr().err

    return run


WORKERS = ("--workers", "1")


@pytest.fixture(scope="session")
def read_shards():
    """Return a function that reads all samples of a folder with the standard library: key -> extension -> bytes."""

    def read(folder):
        samples = {}
        for path in sorted(folder.glob("*.tar")):
            with tarfile.open(path) as archive:
                for member in archive:
                    key, _, extension = member.name.partition(".")
                    assert extension not in samples.setdefault(key, {})
                    samples[key][extension] = archive.extractfile(member).read()
        return samples

    return read


@pytest.fixture(scope="session")
def encode():
    """Return a function that encodes a synthetic (height, width) image of noise smooth enough for JPEG."""

    def encode(height=256, width=256, *, mode="RGB", kind="JPEG", seed=0):
        small = np.random.default_rng(seed).integers(0, 256, (8, 8, 4), dtype=np.uint8)
        picture = Image.fromarray(small[..., :3]).resize((width, height)).convert(mode)
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def clickme_features(encode):
    """Return a function that builds the features of a record in ClickMe's public layout."""

    def features(number=0):
        return {
            "image": [encode(seed=number)],
            "heatmap": [encode(mode="L", seed=number + 500)],
            "label": [(7 * number + 3) % 1000],
        }

    return features


@pytest.fixture
def clickme_file(tmp_path, clickme_features):
    """Return a function that writes a TFRecord file in ClickMe's public layout."""

    def write(count, name="train-0.tfrecords", first=0):
        path = tmp_path / name
        write_records(path, (build_example(clickme_features(first + number)) for number in range(count)))
        return path

    return write
