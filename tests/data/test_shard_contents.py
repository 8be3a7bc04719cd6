"""Random shards with the faults of real ones: each sample is found exactly once, or an error names it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_data import sample, write_folder
from tar_files import IMAGE, JUNK, PLAIN, adopted, entry, members, write_tar

from harmonizer.data.adopt import find_shards
from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.inspect import inspect
from harmonizer.data.loader import BatchLoader
from harmonizer.data.sampling import EvaluationBatches
from harmonizer.data.shards.manifest import NAME, Manifest, Shard, read_manifest, write_manifest
from harmonizer.data.shards.reader import ShardFolder
from harmonizer.data.shards.tar_index import read_contents
from harmonizer.data.shards.writer import write_shard, write_shards

KEYS = st.sampled_from(["a", "b", "C", "c", "d/a", "0.tar/a", "\N{SNOWMAN}"])

SHARDS = st.lists(st.lists(st.tuples(KEYS, st.booleans(), st.sampled_from([None, *JUNK])), max_size=5), min_size=1)


@given(SHARDS.filter(any))
def test_each_sample_is_found_once_or_named_in_an_error(tmp_path_factory, shards):
    folder = tmp_path_factory.mktemp("shards")
    expected, twice = {}, None
    for number, keys in enumerate(shards):
        entries, seen = [], set()
        for key, upper, junk in keys:
            label = len(expected)
            entries += members(key, label, "PNG" if upper else "png") + ([] if junk is None else [junk])
            if key in seen and twice is None:
                twice = rf"{number}\.tar holds '{key}\.(png|PNG)' twice"
            seen.add(key)
            expected[number, key] = label
        write_tar(folder / f"{number}.tar", entries)
    if twice:
        with pytest.raises(ValueError, match=twice):
            for path in find_shards(folder):
                read_contents(path)
        with pytest.raises(ValueError, match="twice"):
            adopted(folder)
        assert any("twice" in problem for problem in inspect(folder)[2])
        return
    source = adopted(folder)
    keys = [key for _, key in expected]
    repeated = len({*keys}) < len(keys)
    assert source.repeated_keys == source.manifest.repeated_keys == repeated
    loader = BatchLoader(ShardDataset([source], PLAIN), EvaluationBatches(len(source), 3))
    found = [pair for batch in loader for pair in zip(batch.keys, batch.labels.tolist(), strict=True)]
    assert found == [(f"{number}.tar/{key}" if repeated else key, i) for (number, key), i in expected.items()]
    assert len(dict(found)) == len(expected)
    assert inspect(folder)[2] == []


def test_extensions_that_differ_only_in_case_are_duplicates(tmp_path):
    write_tar(tmp_path / "x.tar", [*members("a", 0), entry("a.PNG", IMAGE)])
    with pytest.raises(ValueError, match=r"x\.tar holds 'a\.PNG' twice"):
        read_contents(tmp_path / "x.tar")


def test_a_repeated_sample_is_an_error_despite_the_manifest(tmp_path):
    for entries in ([*members("x", 0), *members("x", 1)], [*members("x", 0), *members("y", 0), *members("x", 1)]):
        path = write_tar(tmp_path / "0.tar", entries)
        write_manifest(tmp_path, Manifest(("a", "b"), "", (Shard("0.tar", len(entries) // 2, 0, ""),)))
        for on_error in ("fail", "skip"):
            with pytest.raises(ValueError, match=rf"shard {path} holds 'x.png' twice"):
                ShardDataset(tmp_path, PLAIN, on_error=on_error)


@pytest.mark.parametrize("key", ["a", "a.b", "", "d/", "a\nb", "a\udcff"])
def test_the_writers_refuse_keys_that_cannot_be_read_back(tmp_path, key):
    samples = [sample(0), sample(1) | {"__key__": key if key != "a" else "s00000"}]
    with pytest.raises(ValueError, match=r"expected (every key once|a key without dots)"):
        write_shard(tmp_path / "x.tar", samples)
    with pytest.raises(ValueError, match=r"expected (every key once|a key without dots)"):
        write_shards(samples, tmp_path / "x", classes=("a", "b"), maps="", samples_per_shard=1)
    assert not list(tmp_path.iterdir())


def test_a_manifest_that_lists_a_shard_twice_is_refused(tmp_path):
    write_manifest(tmp_path, Manifest(("a",), "", (Shard("0.tar", 1, 0, ""),) * 2))
    with pytest.raises(ValueError, match=r"the shard '0\.tar' is listed twice"):
        read_manifest(tmp_path)


def test_repeated_keys_are_in_the_manifest_not_its_digest(tmp_path):
    manifest = Manifest(("a",), "", (Shard("0.tar", 1, 0, ""),))
    marked = Manifest(("a",), "", (Shard("0.tar", 1, 0, ""),), repeated_keys=True)
    write_manifest(tmp_path, manifest)
    assert "repeated_keys" not in (tmp_path / NAME).read_text()
    write_manifest(tmp_path, marked)
    assert read_manifest(tmp_path) == marked
    assert marked.digest() == manifest.digest()
    (tmp_path / NAME).write_text((tmp_path / NAME).read_text().replace("true", "1"))
    with pytest.raises(ValueError, match="repeated_keys must be true or false"):
        read_manifest(tmp_path)


def test_keys_in_a_mixture_name_their_folder(tmp_path):
    one, two = (write_folder(tmp_path / name, train=4, val=1, size=8) / "train" for name in "ab")
    dataset = ShardDataset([ShardFolder(one), ShardFolder(two)], PLAIN)
    assert dataset[SampleIndex(0, 0)].key == f"{one}/000000.tar/s00000"
    assert dataset[SampleIndex(4, 0)].key == f"{two}/000000.tar/s00000"
