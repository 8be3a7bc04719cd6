"""Contents of a small results folder, and a function that edits its summary."""

import json

import numpy as np

from harmonizer.results import COLUMNS, Row
from harmonizer.statistics import Status, mean_summary, proportion, survival, tolerance_summary

NAN = float("nan")


def row(key, status=Status.FOUND, **values):
    return Row(**dict.fromkeys(COLUMNS, 0) | {"key": key, "status": status, "eps": 0.1, "l2": 0.1} | values)


def rows():
    return [
        row("a,b", l2=1 / 3, alignment=NAN),
        row("ü", Status.WRONG, l2=NAN),
        row("c", Status.CENSORED, l2=NAN),
        row("d", Status.FAILED, l2=NAN),
    ]


def summary(**changes):
    status, radius = [Status.FOUND, Status.WRONG, Status.CENSORED, Status.FAILED], [1 / 3, NAN, NAN, NAN]
    content = {
        "version": 1,
        "model": {
            "name": "tiny",
            "label": "Tiny",
            "family": "CNN",
            "pretrained": False,
            "checkpoint": None,
            "parameters": 9,
            "input_size": 8,
        },
        "training": None,
        "data": {"name": "demo", "manifest_sha256": "0" * 64, "samples": 4},
        "protocol": {"attack": "ddn", "settings": {"steps": 60}, "eps_max": 10.0, "images": 4, "hash": "1" * 16},
        "accuracy": proportion(np.int64(3), 4),
        "tolerance": tolerance_summary(status, radius, eps_max=10, resamples=10),
        "adversarial_alignment": None,
        "feature_alignment": mean_summary([NAN], ceiling=0.65753),
        "survival": survival(status, radius, [0, 1, 2]),
        "health": {"masked": True, "reasons": ["inf", "zero gradients"], "zero_gradients": np.float32(0.5)},
        "cost": {"forwards": 40, "backwards": 30, "seconds": 1.5},
        "software": {"harmonizer": "0.1.0"},
        "device": "cpu",
        "created": "2026-01-01T00:00:00Z",
    }
    return content | changes


def edit(folder, path, value):
    content = json.loads((folder / "summary.json").read_text())
    block = content
    for key in path[:-1]:
        block = block[key]
    if value is ...:
        del block[path[-1]]
    else:
        block[path[-1]] = value
    (folder / "summary.json").write_text(json.dumps(content))
