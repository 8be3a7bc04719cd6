"""Only scores of one protocol and one kind of head are compared: no correlation or rank mixes two."""

import json

import numpy as np
import pytest

from harmonizer.report.__main__ import main
from harmonizer.report.data import Model, Score, load_models
from harmonizer.report.published import read_external
from harmonizer.report.ranks import ranks
from harmonizer.report.sensitivity import correlations
from harmonizer.report.sources import Source, measure_of, measured_sources
from harmonizer.results import find_results, protocol_hash

MODELS = 4  # of each kind


def change(folder, *, head=None, **protocol):
    """Change the head and the protocol in the summary of a results folder."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    summary["model"] |= {} if head is None else {"head": head}
    asked = {key: value for key, value in (summary["protocol"] | protocol).items() if key != "hash"}
    summary["protocol"] = asked | {"hash": protocol_hash(asked)}
    path.write_text(json.dumps(summary))
    return summary


@pytest.fixture(scope="module")
def mixed(make, tmp_path_factory):
    """Results of one attack in four kinds: plain, of a probe, of a two-way decision, and of a later version."""
    folder = tmp_path_factory.mktemp("mixed")
    kinds = {"own": {}, "probe": {"head": "probe"}, "animate": {"decision": "animate"}, "later": {"future": {"a": [1]}}}
    for kind, told in kinds.items():
        for i in range(MODELS):
            at = make(folder / kind / f"m{i}", "resnet50", label=f"{kind} {i}", tolerance=1 + i, images=30)
            change(at, **told)
    return folder


def test_protocols_decisions_and_heads_are_separate_sources(mixed):
    models, sources = load_models(find_results([mixed]))
    names = ["ddn", "ddn, decision animate", "ddn, future {'a': [1]}", "ddn, probe head"]
    assert sorted(source.name for source in sources) == names
    for source in sources:
        assert len({model.name.split()[0] for model in models if model.source == source.name}) == 1
    assert any(source.protocol.startswith("attack ddn, decision animate, L2 radius up to 10") for source in sources)


def test_no_statistic_mixes_two_sources(mixed, tmp_path):
    assert main([str(mixed), "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "statistics.json").read_text())
    assert {record["n"] for record in found} == {MODELS}
    assert len({record["source"] for record in found}) == 4
    page = (tmp_path / "index.html").read_text()
    assert "ddn, probe head, all" in page and "Over 4 models of ddn, " in page
    for name in ("tolerance.txt", "table.md", "sensitivity.md"):
        assert "ddn, decision animate" in (tmp_path / name).read_text().replace("\\", ""), name


def test_a_family_is_correlated_within_each_source():
    rng = np.random.default_rng(0)
    models = [
        Model(f"{source}{i}", "m", family, source, {axis: Score(rng.normal()) for axis in ("tolerance", "alignment")})
        for source in ("a", "b")
        for family in ("CNN", "hybrid")
        for i in range(3 if family == "hybrid" else 5)
    ]
    found = [r for r in correlations(models) if (r["x"], r["y"]) == ("tolerance", "alignment")]
    assert [(r["source"], r["group"], r["n"]) for r in found] == [
        *(("a", "all", 8), ("a", "CNN", 5)),
        *(("b", "all", 8), ("b", "CNN", 5)),
    ]


def test_sources_with_equal_descriptions_show_their_hash(make, tmp_path):
    summary = change(make(tmp_path / "one", "resnet50", images=30))
    other = summary | {"protocol": summary["protocol"] | {"hash": "f" * 16}}
    first, second = measured_sources([summary, other]).values()
    assert {first.name, second.name} == {f"ddn [{summary['protocol']['hash'][:6]}]", "ddn [ffffff]"}
    fewer = summary | {"protocol": summary["protocol"] | {"images": 7, "hash": "e" * 16}}
    assert {s.name for s in measured_sources([summary, fewer]).values()} == {"ddn, 30 images", "ddn, 7 images"}


def test_a_head_that_is_not_text_is_refused(make, tmp_path):
    folder = make(tmp_path / "one", "resnet50", images=30)
    change(folder, head=["probe"])
    with pytest.raises(ValueError, match=r"one: field model\.head: expected a text"):
        load_models([folder])


def test_own_models_are_ranked_only_within_their_decision(tmp_path):
    text = "model,pt,aa,pt_sem,aa_sem\nx,1,0.1,,\ny,2,0.2,,\n"
    (tmp_path / "feng2025_l2fmn.csv").write_text(text)
    table, source = read_external(tmp_path / "feng2025_l2fmn.csv")
    assert source.measure == ("feng2025", "decision animate")  # the table's radii are two-way radii
    (tmp_path / "own.csv").write_text(f"# attack: ddn\n{text}")
    assert read_external(tmp_path / "own.csv")[1].measure == ("ddn",)
    for decision, ranked in (("animate", True), (None, False)):
        mine = Source("mine", "", "", measure_of("feng2025", decision))
        folder = object.__new__(type("Results", (), {}))
        own = Model("own", "own", "CNN", "mine", {"tolerance": Score(1.5)}, results=folder)
        assert bool(list(ranks([*table, own], [source, mine], [own]))) == ranked


@pytest.mark.parametrize("scored", [True, False])
def test_the_alignment_of_feng2025_is_under_its_own_mask(make, tmp_path, scored):
    folder = make(tmp_path / "mine", "resnet50", label="mine", tolerance=1.0, images=30)
    summary = json.loads((folder / "summary.json").read_text())
    summary["protocol"] |= {"attack": "feng2025", "decision": "animate"}
    own = {"mean": 0.1, "se": 0.01, "low": 0.08, "high": 0.12, "n": 30, "n_undefined": 0}
    summary["scores"] = {"feng2025": own | {"ceiling": 0.5, "share_of_ceiling": 0.2}} if scored else {}
    (folder / "summary.json").write_text(json.dumps(summary))
    (model,), _ = load_models([folder])
    assert model.value("alignment") == pytest.approx(0.2) if scored else "alignment" not in model.scores


def test_columns_and_keys_of_a_later_version_change_nothing(make, tmp_path):
    for name in ("plain", "later"):
        for i in range(MODELS):
            folder = make(tmp_path / name / f"m{i}", "resnet50", label=f"m{i}", tolerance=1 + i, images=30)
            if name == "later":
                lines = (folder / "images.csv").read_text().splitlines()
                (folder / "images.csv").write_text("".join(f"{line},alignment_onevision\n" for line in lines))
                summary = json.loads((folder / "summary.json").read_text())
                more = {"onevision2026": {"mean": 0.9, "low": None}, "alignments": [1, {"a": None}]}
                (folder / "summary.json").write_text(json.dumps(summary | more))
        assert main([str(tmp_path / name), "--out", str(tmp_path / f"{name}-out")]) == 0
    for path in (tmp_path / "plain-out").iterdir():
        assert path.read_bytes() == (tmp_path / "later-out" / path.name).read_bytes(), path.name
