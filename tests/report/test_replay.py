"""The replay of the 2023 figures: pairs, averages, marks, and what is refused."""

import csv
import re

import numpy as np
import pytest
from scipy import stats

from harmonizer.report.__main__ import main
from harmonizer.report.data import load_models
from harmonizer.report.replay import agreement, replay_figure, replayed
from harmonizer.results import COLUMNS, Row, find_results, load_results, protocol_hash, write_results
from harmonizer.statistics import AS_PUBLISHED, NAN_EPS, Status

NAMES = ("vgg16", "resnet18", "resnet34", "resnet50")


def republish(folder, results, factor, settings):
    """Write a made-up replay of measured results: longer radii, and some images of other statuses."""
    summary, columns = results.summary, results.columns
    status = columns["status"].copy()
    status[:6] = [Status.CENSORED, Status.CENSORED, Status.FAILED, Status.FAILED, Status.FAILED, Status.FOUND]
    labels = np.where(np.arange(len(status)) == 2, 0, columns["label"] + 1)
    radius = np.where(status == Status.FOUND, factor * np.nan_to_num(columns["l2"], nan=1.0), np.nan)
    rows = [{name: columns[name][i] for name in COLUMNS} for i in range(len(status))]
    changes = zip(rows, status, labels, radius, strict=True)
    rows = [Row(**row | {"status": s, "label": y, "l2": r, "eps": r / 2}) for row, s, y, r in changes]
    counts = {f"n_{name}": int((status == i).sum()) for i, name in enumerate(("wrong", "censored", "found", "failed"))}
    protocol = {"attack": AS_PUBLISHED, "settings": settings, "eps_max": 10.0, "images": len(rows)}
    summary = summary | {"tolerance": summary["tolerance"] | counts}
    write_results(folder, summary | {"protocol": protocol | {"hash": protocol_hash(protocol)}}, rows)
    return status, labels, radius


@pytest.fixture(scope="module")
def both(make, tmp_path_factory):
    """Four models under both protocols; the replay makes the third the most tolerant."""
    folder = tmp_path_factory.mktemp("replay")
    made = {}
    for i, name in enumerate(NAMES):
        at = make(folder / "proper" / name, name, tolerance=1.0 + i, attack="linsley2023")
        never = "counted" if name == "resnet50" else "dropped"
        settings = {"scaling": "minmax", "never_fooled": never}
        made[name] = republish(folder / "published" / name, load_results(at), 9 if i == 2 else 3, settings), never
    return folder, made


def test_models_have_both_averages_and_their_rank_correlation(both):
    folder, made = both
    pairs = replayed(load_models(find_results([folder]))[0])
    assert [pair.corrected.results.name for pair in pairs] == list(NAMES)  # sorted by corrected tolerance
    expected = []
    for pair in pairs:
        (status, labels, radius), never = made[pair.corrected.results.name]
        values = list(radius[status == Status.FOUND]) + [NAN_EPS] * int(
            ((status == Status.FAILED) & (labels != 0)).sum()
        )
        values += (
            [10.0]
            * int(((status == Status.CENSORED) | ((status == Status.FAILED) & (labels == 0))).sum())
            * (never == "counted")
        )
        expected.append(np.mean(values))
        first, second = pair.scores("tolerance")
        assert second["mean"] == pytest.approx(expected[-1])
        assert second["n_nan_fooled"] == ((status == Status.FAILED) & (labels != 0)).sum()
        assert first["mean"] == pair.corrected.value("tolerance")
    assert agreement(pairs, "tolerance")["rho"] == pytest.approx(stats.spearmanr(range(4), expected).statistic)
    assert agreement(pairs, "tolerance")["rho"] < 1


def test_the_command_writes_only_the_replay_and_marks_it(both, tmp_path, capsys):
    folder, _ = both
    assert main([str(folder), "--replay", "--out", str(tmp_path)]) == 0
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"replay.md", "replay.png", "replay.pdf", "replay.svg"}
    text = (tmp_path / "replay.md").read_text()
    assert text.startswith(f"# {AS_PUBLISHED}")
    assert re.findall(r"^\*\*(\d)\.", text, re.M) == list("123456")  # one paragraph per defect
    made = [m for m, _ in both[1].values()]
    radii = np.concatenate([radius[status == Status.FOUND] for status, _, radius in made])
    assert f"mean eps {radii.mean() / 2:.2f}, mean norm {radii.mean():.2f}" in text
    assert f"and {(radii > 10).sum()} exceed 10" in text
    assert text.count("NaN") >= 2
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_replay_of_one_model_has_no_rank_correlation(both, tmp_path):
    folder, _ = both
    places = [str(folder / kind / NAMES[0]) for kind in ("proper", "published")]
    assert main([*places, "--replay", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "replay.md").read_text()
    assert "The two protocols, tolerance: No rank correlation of 1 model: it takes 4." in text
    assert "nan" not in text


def test_the_replay_figure_is_marked(both):
    folder, _ = both
    figure = replay_figure(replayed(load_models(find_results([folder]))[0]))
    assert AS_PUBLISHED in figure.get_suptitle()


def test_every_figure_of_a_report_with_a_replay_is_marked(both, tmp_path, monkeypatch):
    folder, _ = both
    marked = []
    monkeypatch.setattr("harmonizer.report.build.save", lambda figure, stem: marked.append(figure.get_suptitle()) or [])
    assert main([str(folder / "published"), "--out", str(tmp_path)]) == 0
    assert len(marked) >= 2
    assert all(AS_PUBLISHED in title for title in marked)
    assert AS_PUBLISHED in (tmp_path / "index.html").read_text()
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert {row["source"].split(",")[0] for row in rows} == {AS_PUBLISHED}


def test_a_missing_protocol_is_named(both, tmp_path, capsys):
    folder, _ = both
    assert main([str(folder / "proper"), "--replay", "--out", str(tmp_path / "a")]) == 2
    assert f"attack={AS_PUBLISHED}" in capsys.readouterr().err
    assert main([str(folder / "published"), "--replay", "--out", str(tmp_path / "b")]) == 2
    assert "under attack=linsley2023 for --replay, got none" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
