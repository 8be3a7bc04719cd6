"""The page's opening sentence and the ranks of own models: numbers, directions, and what is not claimed."""

import numpy as np
import pytest

from harmonizer.report.data import Model, Score
from harmonizer.report.finding import finding
from harmonizer.report.paired import Comparison
from harmonizer.report.ranks import own_models, ranks
from harmonizer.report.sources import Source

RHO = "\N{GREEK SMALL LETTER RHO}"


def item(y, rho, low, high, *, x="accuracy", source="table", group="all", n=305):
    return {"x": x, "y": y, "source": source, "group": group, "rho": rho, "low": low, "high": high, "p": 0.01, "n": n}


def model(name, source="table", control=None, **scores):
    return Model(name, name, "CNN", source, {axis: Score(value) for axis, value in scores.items()}, control)


@pytest.mark.parametrize(
    ("tolerance", "alignment", "expected"),
    [
        (
            (0.829, 0.784, 0.854),
            (-0.746, -0.778, -0.698),
            f"Over 305 models, more accurate models are more tolerant ({RHO} 0.83 [0.78, 0.85]) and less aligned "
            "(~0.75 [~0.78, ~0.70]).",
        ),
        (
            (0.5, 0.2, 0.7),
            (0.1, -0.3, 0.4),
            f"Over 305 models, more accurate models are more tolerant ({RHO} 0.50 [0.20, 0.70]); accuracy is not "
            "reliably related to adversarial alignment (0.10 [~0.30, 0.40]).",
        ),
        (
            (0.5, np.nan, np.nan),
            (np.nan, np.nan, np.nan),
            f"Over 305 models, accuracy is not reliably related to tolerance ({RHO} 0.50).",
        ),
    ],
)
def test_the_finding_states_which_relations_are_reliable(tolerance, alignment, expected):
    found = [item("tolerance", *tolerance), item("alignment", *alignment)]
    assert finding([model("a")], found, []) == expected.replace("~", "\N{MINUS SIGN}")


def test_the_finding_is_about_the_source_with_most_models():
    found = [
        item("tolerance", 0.9, 0.8, 0.95, source="large", n=300),
        item("tolerance", -0.9, -0.95, -0.8, source="small", n=100),
        item("tolerance", -0.9, -0.95, -0.8, source="large", group="CNN", n=350),
    ]
    text = finding([model("a", "large"), model("b", "small")], found, [])
    assert text == f"Over 300 models of large, more accurate models are more tolerant ({RHO} 0.90 [0.80, 0.95])."


def pair(name, **differences):
    keys = ("mean", "low", "high")
    told = {score: dict(zip(keys, values, strict=True)) for score, values in differences.items()}
    b = model(f"{name} harmonized", control=name)
    return Comparison(model(name), b, np.array(["k"]), {}, told)


def test_the_finding_states_what_harmonizing_changed():
    one = pair("vit", tolerance=(1.21, 1.0, 1.43), alignment=(0.1, -0.1, 0.3))
    text = finding([one.a, one.b], [], [one])
    assert text == (
        "Harmonizing vit harmonized raises tolerance by 1.21 [1.00, 1.43]; "
        "it changes adversarial alignment by +0.10 [\N{MINUS SIGN}0.10, +0.30]."
    )
    other = pair("resnet", tolerance=(0.5, 0.2, 0.8))
    text = finding([one.a, one.b, other.a, other.b], [], [one, other])
    assert text.startswith("Harmonizing 2 models raises tolerance (all of 2, +0.50 to +1.21)")
    assert finding([model("a")], [], []) == "1 model measured, too few for a rank correlation."


def test_an_own_model_is_ranked_only_within_its_attack():
    table = [model(f"m{i}", "Table", tolerance=float(i)) for i in range(5)]
    strangers = [model(f"s{i}", "Others", tolerance=100.0 + i) for i in range(5)]
    own = Model("mine", "mine", "CNN", "Table", {"tolerance": Score(2.5)})
    sources = [Source("Table", "c", "p", ("ddn",)), Source("Others", "c", "p", ("pgd",))]
    (rank,) = ranks([*table, *strangers, own], sources, [own])
    assert (rank.rank, rank.of, rank.axis, rank.protocol) == (3, 6, "tolerance", "Table")
    assert rank.text == "3rd of 6 in tolerance with 2.500, behind m3 (3.000), ahead of m2 (2.000)"
    assert own_models([*table, own], ["mine"]) == [own]
    with pytest.raises(ValueError, match="expected the name of a model for --own, got 'nobody'"):
        own_models(table, ["nobody"])
