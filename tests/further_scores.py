"""Further scores in made-up results folders: named alignments, and behaviour."""

import json

import numpy as np

from harmonizer.results.folder import encoded
from harmonizer.statistics import CLICKME_V2, alignment_summary, mean_summary

WEIGHTS, DATA = "ab" * 32, "12" * 32  # of the weights in conftest.make_results; of images and answers


def add_scores(folder, means, *, ceiling=0.44, source=None, n=40):
    """Add named scores whose images scatter around a mean; the ``source`` of the ceiling is ClickMe v2 by default."""
    summary = json.loads((folder / "summary.json").read_text())
    rng, scores = np.random.default_rng(0), {}
    for name, mean in means.items():
        values = mean + 0.1 * rng.normal(size=n)
        scores[name] = alignment_summary(values, ceilings=np.full(n, ceiling), resamples=100)
        if name.startswith("onevision"):
            scores[name] |= {
                "ceiling_source": source or CLICKME_V2,
                "mean_of_ratios": mean_summary(values / (ceiling + 0.05)),
            }
    (folder / "summary.json").write_text(json.dumps(encoded(summary | {"scores": scores})))
    return scores


def add_behaviour(folder, kappa, bias=None, *, weights=WEIGHTS, data=DATA):
    """Write what ``harmonizer behaviour --out FOLDER`` writes."""
    content = {
        "model": "any",
        "weights_sha256": weights,
        "data_sha256": data,
        "error_consistency": kappa,
        "between_people": 0.41,
        "shape_bias": None if bias is None else counted(bias),
        "people_shape_bias": None if bias is None else counted(0.96),
        "images": 1280,
        "people": 10,
        "trials": 12800,
    }
    (folder / "behaviour.json").write_text(json.dumps(content))
    return content


def counted(bias):
    by_shape = round(200 * bias)
    return {"shape_bias": by_shape / 200, "n_shape": by_shape, "n_texture": 200 - by_shape, "n": 400}
