"""Results on disk: one folder per model, written atomically and checked when read; its content is never executed.

``summary.json``
    Model, data, protocol, and every aggregate. Strict JSON: NaN is ``null``, an infinity ``"inf"``.
``images.csv``
    One row per image; an undefined value is an empty cell.
``examples.npz``
    A few attacked images as float arrays; rounded to 8 bits, minimal perturbations often fool no longer.
``behaviour.json``, ``answers.csv``
    Agreement of the model's answers with people's, written by ``harmonizer behaviour --out FOLDER``; optional.

Next to the folders, ``failed/MODEL.json`` states why a model of a sweep could not be measured.
"""

from harmonizer.results.behaviour import ANSWERS, BEHAVIOUR, read_behaviour
from harmonizer.results.cells import text_cell
from harmonizer.results.failures import FAILURES, load_failures, read_failure
from harmonizer.results.folder import (
    SUMMARY,
    Results,
    creation_time,
    different_settings,
    find_results,
    load_results,
    protocol_hash,
    refuse_existing,
    write_results,
)
from harmonizer.results.row import COLUMNS, RADIUS, Row
from harmonizer.results.rows import OpenRows, read_rows, write_rows
from harmonizer.results.schema import VERSION
from harmonizer.results.work import Work, clear_leftovers, lock_results
from harmonizer.untrusted import file_name as folder_name

__all__ = [
    "ANSWERS",
    "BEHAVIOUR",
    "COLUMNS",
    "FAILURES",
    "RADIUS",
    "SUMMARY",
    "VERSION",
    "OpenRows",
    "Results",
    "Row",
    "Work",
    "clear_leftovers",
    "creation_time",
    "different_settings",
    "find_results",
    "folder_name",
    "load_failures",
    "load_results",
    "lock_results",
    "protocol_hash",
    "read_behaviour",
    "read_failure",
    "read_rows",
    "refuse_existing",
    "text_cell",
    "write_results",
    "write_rows",
]
