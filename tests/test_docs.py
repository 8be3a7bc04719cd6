"""The documents name existing tests and files, and the table of recipes matches the configs."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from configs.table import PAGE, page, read_recipe

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
DOCUMENTS = [
    *(ROOT / "docs" / name for name in ("figures.md", "methods.md", "models.md", "recipes.md", "report.md")),
    ROOT / "SECURITY.md",
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_exists(document):
    named = NAMED.findall(document.read_text())
    assert named
    for path, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.M), f"{document.name} names {path}::{test}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document):
    text = document.read_text()
    for path in re.findall(r"(?:tests|configs|harmonizer)/[\w/]+\.(?:py|yaml)", text):
        assert (ROOT / path).is_file(), f"{document.name} names {path}"
    for target in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (document.parent / target).is_file(), f"{document.name} links to {target}"


def test_the_table_of_recipes_matches_the_configs():
    assert page(PAGE.read_text()) == PAGE.read_text(), "python -m configs.table --write"


def test_every_setting_of_a_published_recipe_names_its_source():
    for name in ("fel2022", "fel2022_original", "pseudo2023"):
        without = [key for key, (_, source) in read_recipe(name).items() if not source]
        assert set(without) <= {"epochs", "batch_size"}, f"{name}: {without}"


def test_lowest_version_constraints_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {}
    for line in project["dependencies"] + project["optional-dependencies"]["dev"]:
        requirement = Requirement(line)
        (bound,) = requirement.specifier
        assert bound.operator == ">=", line
        bounds[requirement.name] = bound.version
    lines = (ROOT / "constraints/lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pinned.pop("pytorch-lightning") == pinned["lightning"]
    assert pinned.pop("pyarrow") == "17.0.0"  # for datasets; newer versions need NumPy 2, which is above our bound
    checkers = {"ruff", "mypy"}  # not used by tests
    assert {name: _numbers(version) for name, version in pinned.items()} == {
        name: _numbers(version) for name, version in bounds.items() if name not in checkers
    }


def _numbers(version):
    """Return the parts of a version without trailing zeros, so that 1.0 equals 1.0.0."""
    numbers = [int(part) for part in version.split(".")]
    while numbers[-1] == 0:
        numbers.pop()
    return numbers
