"""What each published defect changes, in words, with the numbers of the models at hand."""

from collections.abc import Sequence

import numpy as np

from harmonizer.report.replay import (
    LONGEST,
    TITLE,
    Replayed,
    agreement,
    share_correct,
)
from harmonizer.report.tables import correlation_text, escaped, estimate
from harmonizer.results import RADIUS
from harmonizer.statistics import Status


def replay_markdown(pairs: Sequence[Replayed]) -> str:
    """Write the table of both protocols, their rank correlations, and one paragraph per defect."""
    lines = [
        f"# {TITLE}",
        "",
        "Corrected: mean of min(L2, largest radius) over the images that were right before the "
        "attack, none skipped. As",
        "published: the mean that the 2023 figures show. Only ranks can be compared, and those only "
        "as far as they agree.",
        "",
        "| model | corrected | as published | never fooled | failed, corrected | failed, as published | of these "
        "fooled by NaN | images | alignment, corrected | as published |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for pair in pairs:
        (first, second), (third, fourth) = pair.scores("tolerance"), pair.scores("alignment")
        made = pair.average()
        cells = [
            escaped(str(pair.corrected.name)),
            *(_shown(score["mean"]) for score in (first, second)),
            f"{made['n_never_fooled']} {pair.never_fooled}",
            *(str(int((model.columns["status"] == Status.FAILED).sum())) for model in (pair.corrected, pair.published)),
            str(made["n_nan_fooled"]),
            str(second["n"]),
            *(_shown(score["mean"]) for score in (third, fourth)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for panel in ("tolerance", "alignment"):
        lines.append(f"The two protocols, {panel}: {correlation_text(agreement(pairs, panel))}.")
    for title, paragraph in _defects(pairs):
        lines += ["", f"**{title}** {paragraph}"]
    return "\n".join(lines) + "\n"


def _defects(pairs: Sequence[Replayed]) -> list[tuple[str, str]]:
    """Return a title and a paragraph per defect: what it does, and what it changed here."""
    return [
        ("1. The step added eps (until 28 June 2023).", _addition(pairs)),
        ("2. Never-fooled images were dropped, or counted at 10.", _never_fooled(pairs)),
        ("3. Images were not fed as the models expect.", _scaling(pairs)),
        ("4. A zero gradient counted as fooled.", _zero_gradients(pairs)),
        (
            "5. The TensorFlow attack's loss call has its arguments swapped.",
            "With probabilities as predictions the swapped cross-entropy is a constant times 1 - p of the true "
            "class: its gradient points the same way, and steps have unit length, so that nothing changes "
            "(tests/attacks/test_linsley2023_as_published.py shows it).",
        ),
        (
            "6. main.py cannot run, and its search passes the initial eps.",
            "The notebook is what can be replayed; the numbers of main.py cannot be made again by anyone.",
        ),
    ]


def _addition(pairs: Sequence[Replayed]) -> str:
    radii, budgets = [], []
    for pair in pairs:
        rows = pair.published.columns
        found = rows["status"] == Status.FOUND
        radii.append(rows[RADIUS][found])
        budgets.append(rows["eps"][found])
    radius, eps = np.concatenate(radii), np.concatenate(budgets)
    if not len(radius):
        return "No image was fooled here."
    return (
        "Each of three steps moved by eps beyond the last instead of projecting onto the sphere of radius eps: a "
        "norm may reach 3 x (0.5 + eps), 31.5, where the corrected protocol cannot exceed eps, and however small eps "
        f"is, the steps of 0.5 themselves remain. Here {100 * (radius > eps).mean():.0f} % of the {len(radius)} "
        f"fooled images are further away than their eps (mean eps {eps.mean():.2f}, mean norm {radius.mean():.2f}); "
        f"the norms lie between {radius.min():.2f} and {radius.max():.2f}, and {(radius > LONGEST).sum()} exceed "
        f"{LONGEST:g}."
    )


def _never_fooled(pairs: Sequence[Replayed]) -> str:
    parts = []
    for pair in pairs:
        dropped, counted = (pair.average(choice)["mean"] for choice in ("dropped", "counted"))
        number = pair.average()["n_never_fooled"]
        parts.append(f"{pair.corrected.name}: {_shown(dropped, 2)} or {_shown(counted, 2)} ({number} images)")
    return (
        "Timm models lost these images from their average, which makes the most tolerant models look worse; the "
        "harmonized TensorFlow models had them counted at 10, which makes them look better. The mean if dropped or "
        "counted: " + "; ".join(parts) + "."
    )


def _scaling(pairs: Sequence[Replayed]) -> str:
    parts = [
        f"{pair.corrected.name} ({pair.scaling}): {100 * share_correct(pair.corrected):.0f} % right when fed properly, "
        f"{100 * share_correct(pair.published):.0f} % here"
        for pair in pairs
    ]
    return (
        "Timm models got images min-max scaled over the mini-batch, without their mean and std: another input than "
        "they were trained on, so that other images are right before the attack, and an image's radius depends on "
        "its neighbours. The TensorFlow models were attacked in units of mean and std, in which the same change has "
        "1 / std times the norm (about 4.4 for ImageNet's), so that radii of the two kinds differ by that factor "
        "before any robustness does. " + "; ".join(parts) + "."
    )


def _zero_gradients(pairs: Sequence[Replayed]) -> str:
    parts = []
    for pair in pairs:
        rows, made = pair.published.columns, pair.average()
        failed = int((rows["status"] == Status.FAILED).sum())
        if failed:
            proper = rows[RADIUS][rows["status"] == Status.FOUND]
            without = f"{proper.mean():.3f}" if len(proper) else "nothing"
            parts.append(
                f"{pair.corrected.name}: {failed} failed images, of which {made['n_nan_fooled']} were published as "
                f"fooled at {made['nan_eps']:.4f}: the mean is {_shown(made['mean'])} with them and {without} without"
            )
    return (
        "Dividing by its norm made the image NaN; the answer to that is class 0, wrong unless the label is 0, at the "
        "smallest eps. A model that hides its gradient so scored as the least robust. Here such images have status "
        "failed, under both protocols. " + ("; ".join(parts) if parts else "There are none among these models") + "."
    )


def _shown(mean: float, digits: int = 3) -> str:
    """Show a mean, a dash for that of nothing."""
    return estimate(mean, np.nan, np.nan, digits)
