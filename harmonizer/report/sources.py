"""Sources of scores: published tables, and protocols of results folders under distinct names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from harmonizer.untrusted import plain_text, shortened

SOFTWARE = ("harmonizer", "torch", "timm")  # packages whose versions the description of a protocol contains
OWN = "own"  # the head that a model was trained with; others come from text, or are fitted to its features
DECISION = "decision"  # key of a protocol whose attack changes a decision other than the class
TOLD = ("attack", "settings", "eps_max", "images", "data", "hash", DECISION)  # keys described separately
MOST_TOLD = 3  # most details in a name


@dataclass(frozen=True)
class Source:
    """A source of scores: a published table, or one protocol and kind of head measured here."""

    name: str  # name shown
    citation: str  # citation of a published table
    protocol: str  # description of the measurement: attack, budget, images, software
    # attack, decision and head, if known: models of two sources are ranked together only if these are equal
    measure: tuple[str, ...] = ()


def source_key(summary: Mapping[str, Any], where: str = "") -> tuple[str, str]:
    """Return the hash of the protocol and the kind of head, which comparable models share.

    Raises:
        ValueError: The head is not a text; the message begins with ``where``.
    """
    return summary["protocol"]["hash"], plain_text(summary["model"].get("head", OWN), f"{where}field model.head")


def measured_sources(summaries: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Source]:
    """Return one source per protocol and kind of head, by :func:`source_key`; their names state how they differ."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for summary in summaries:
        groups.setdefault(source_key(summary), []).append(summary)
    measures = {key: _measure(groups[key][0]) for key in sorted(groups)}
    details = {key: _details(groups[key][0]) for key in measures}
    names = {}
    for key, measure in measures.items():
        rivals = [set(details[other]) for other in measures if measures[other] == measure]
        telling = [part for part in details[key] if not all(part in rival for rival in rivals)]
        names[key] = ", ".join([*measure, *telling[:MOST_TOLD]])
    twice = Counter(names.values())
    return {
        key: Source(name if twice[name] == 1 else f"{name} [{key[0][:6]}]", "", _described(groups[key]), measures[key])
        for key, name in names.items()
    }


def measure_of(attack: str, decision: object = None, head: str = OWN) -> tuple[str, ...]:
    """Return a description of attack, decision (if not the class) and head (if not the model's own).

    >>> measure_of("ddn"), measure_of("feng2025", "animate"), measure_of("ddn", head="probe")
    (('ddn',), ('feng2025', 'decision animate'), ('ddn', 'probe head'))
    """
    return attack, *([f"decision {_shown(decision)}"] if decision else []), *([] if head == OWN else [f"{head} head"])


def _measure(summary: Mapping[str, Any]) -> tuple[str, ...]:
    protocol, head = summary["protocol"], source_key(summary)[1]
    return measure_of(protocol["attack"], protocol.get(DECISION), head)


def _details(summary: Mapping[str, Any]) -> list[str]:
    """Return descriptions of the other settings of a protocol, including keys of later versions."""
    protocol = summary["protocol"]
    others = {key: value for key, value in protocol.items() if key not in TOLD} | protocol["settings"]
    parts = [
        f"{protocol['images']} images",
        f"L2 up to {protocol['eps_max']:g}",
        PurePath(summary["data"]["name"]).name,
    ]
    return parts + [f"{key} {_shown(value)}" for key, value in sorted(others.items())]


def _described(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Return the description of the protocol that results share."""
    protocol = summaries[0]["protocol"]
    data = ", ".join(sorted({PurePath(summary["data"]["name"]).name for summary in summaries}))
    software = sorted({f"{k} {v}" for summary in summaries for k, v in summary["software"].items() if k in SOFTWARE})
    attack, budget = ", ".join(_measure(summaries[0])), f"L2 radius up to {protocol['eps_max']:g} in [0,1] pixel units"
    images = f"{protocol['images']} images of {data}"
    return f"attack {attack}, {budget}, {images}, {', '.join(software)} (protocol {protocol['hash']})"


def _shown(value: object) -> str:
    """Return a setting from a file as short text on one line."""
    return shortened(value).strip("'")
