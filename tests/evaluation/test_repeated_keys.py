"""Two samples with the same key in two shards count as two: measured, saved, resumed and compared separately."""

import json
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from processes import in_two_processes
from shard_data import CLASSES, sample

from callbacks.evaluation import Evaluation, _gathered
from callbacks.gallery import Gallery
from callbacks.results import ResultsWriter
from harmonizer.data.datamodule import ShardData
from harmonizer.data.loader import BatchLoader
from harmonizer.data.shards.manifest import Manifest, write_manifest
from harmonizer.data.shards.writer import shard_name, write_shard
from harmonizer.evaluation.compare import compare
from harmonizer.evaluation.model_spec import ModelSpec
from harmonizer.evaluation.progress import Progress
from harmonizer.evaluation.summary import Outcome, Protocol
from harmonizer.results import Row, load_results
from harmonizer.statistics import Status, pair_keys
from harmonizer.training.module import HarmonizerModule

EACH = 4  # samples per shard
SPEC = ModelSpec("test_vit", 32, "it")


def write(folder, *, repeated, marked=False):
    """Write the same images to two shards, numbered per shard (repeated keys) or across both."""
    (folder / "val").mkdir(parents=True)
    shards = []
    for number in range(2):
        named = (
            sample(number * EACH + i) | {"__key__": f"{i if repeated else number * EACH + i:06d}"} for i in range(EACH)
        )
        shards.append(write_shard(folder / "val" / shard_name(number), named))
    write_manifest(folder / "val", Manifest(CLASSES, "", tuple(shards), repeated_keys=marked))
    return folder


def data_of(folder):
    return ShardData(folder, model="test_vit", image_size=32, crop_ratio=1.0, batch_size=4, eval_batch_size=2)


def measure(folder, results, *, seed=0, report=None):
    """Evaluate an untrained network."""
    torch.manual_seed(seed)
    module = HarmonizerModule("test_vit", CLASSES, 32)
    evaluation = Evaluation("pgd", {"eps_max": 5.0, "steps": 4, "rounds": 1})
    writer = ResultsWriter(results, spec=SPEC, data_name="squares", report=report)
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=[evaluation, writer],
        logger=False,
        enable_progress_bar=False,
        inference_mode=False,
    )
    try:
        trainer.validate(module, data_of(folder), verbose=False)
    finally:
        writer.work.close()
    return load_results(results / "it")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("repeated")
    return write(root / "unique", repeated=False), write(root / "repeated", repeated=True)


@pytest.fixture(scope="module")
def results(folders, tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    return [measure(folder, root / folder.name) for folder in folders]


def test_repeated_keys_give_the_results_of_unique_ones(results):
    unique, repeated = results
    assert unique.columns["key"].tolist() == [f"{i:06d}" for i in range(2 * EACH)]
    names = [f"{shard_name(number)}/{i:06d}" for number in range(2) for i in range(EACH)]
    assert repeated.columns["key"].tolist() == names
    for column in ("label", "feature_alignment"):  # not those of the attack, whose seeds depend on the names
        np.testing.assert_allclose(repeated.columns[column], unique.columns[column], rtol=1e-4)
    wrong = [found.columns["status"] == 0 for found in results]
    assert wrong[0].tolist() == wrong[1].tolist()
    for found in results:
        counted = [found.summary[block]["n"] for block in ("accuracy", "tolerance", "feature_alignment")]
        assert counted == [2 * EACH] * 3


def test_names_change_the_protocol_only_for_repeated_keys(results, folders):
    protocols = [found.summary["protocol"] for found in results]
    assert "sample_names" not in protocols[0]  # so that old results stay comparable and old evaluations resume
    assert protocols[1]["sample_names"] == "SHARD/KEY"
    data = data_of(folders[1])
    old = results[1].folder.parent / "old"
    summary = json.loads((results[1].folder / "summary.json").read_text())
    del summary["protocol"]["sample_names"]
    (old / "it").mkdir(parents=True)
    (old / "it/summary.json").write_text(json.dumps(summary))  # with half of the images
    writer = ResultsWriter(old, spec=SPEC, data_name="squares")
    protocol = Protocol("pgd", {"eps_max": 5.0, "steps": 4, "rounds": 1})
    with pytest.raises(FileExistsError, match=r"protocol\.sample_names \(None, wanted SHARD/KEY\)"):
        writer.is_done(data, protocol)


@pytest.mark.parametrize("which", [0, 1])
def test_an_interrupted_evaluation_resumes_at_the_image(folders, results, which, tmp_path):
    def stop(done, total):
        assert total == 2 * EACH
        if done > EACH + 2:  # in the second shard, during an attack; the rows before it are kept
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        measure(folders[which], tmp_path, report=stop)
    assert len((tmp_path / ".it.part/images-0-of-1.csv").read_text().splitlines()) == 1 + EACH + 2
    again = measure(folders[which], tmp_path)
    for name, column in results[which].columns.items():
        np.testing.assert_array_equal(again.columns[name], column, err_msg=name)


def test_models_are_paired_image_by_image(folders, results, tmp_path):
    other = measure(folders[1], tmp_path, seed=1)
    difference = compare(results[1], other)["feature_alignment"]
    assert difference["n"] == 2 * EACH
    expected = other.columns["feature_alignment"] - results[1].columns["feature_alignment"]
    assert difference["mean"] == pytest.approx(expected.mean())
    with pytest.raises(ValueError, match="expected every key once, got 'x' more than once"):
        pair_keys(["x"], ["x", "y", "x"])


def remote(folder):
    return f"file://{folder}"


def test_a_remote_manifest_must_declare_repeated_keys(folders, tmp_path):
    marked = write(tmp_path / "marked", repeated=True, marked=True)
    data = ShardData(remote(marked), model="test_vit", batch_size=4, cache=tmp_path / "cache")
    names = [name for batch in data.val_dataloader() for name in batch.keys]
    assert len(set(names)) == 2 * EACH
    assert names[EACH] == "000001.tar/000000"
    silent = ShardData(remote(folders[1]), model="test_vit", batch_size=4, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match=f"two samples of {remote(folders[1])}/val are named '000000'; put"):
        list(silent.val_dataloader())
    assert isinstance(silent.val_dataloader(), BatchLoader)


def row(key):
    return Row(key=key, label=0, prediction=1, status=Status.FOUND, l2=1.0)


def test_images_with_similar_names_get_separate_files(tmp_path):
    protocol, outcome = Protocol("pgd", {}), Outcome([], 0.0, 10.0)
    progress = Progress(protocol, 4)
    for key in ("a", "d/a", "d_a", "x" * 400):
        image = torch.rand(3, 32, 32)
        arrays = {"image": image, "adversarial": image.flip(1), "human": image[0]}
        progress.examples[key] = arrays | {"label": 0}
        progress.rows[key] = row(key)
    trainer = SimpleNamespace(is_global_zero=True, loggers=[])
    Gallery(tmp_path).on_evaluation_end(trainer, HarmonizerModule("test_vit", CLASSES, 32), outcome, progress)
    assert len(list(tmp_path.iterdir())) == 4
    assert (tmp_path / "a.png").is_file()


def gather(rank):
    with pytest.raises(ValueError, match="two samples are named 'a'"):
        _gathered({key: row(key) for key in ("a", f"{rank}")}, 0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.12 on fork; short-lived children
def test_the_same_name_on_two_processes_is_an_error(tmp_path):
    in_two_processes(gather, tmp_path)
