"""Imports point down: each layer imports only from its own level and below."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest
from programs import IMPORTED

ROOT = Path(__file__).parents[1]
FILES = sorted(path for name in ("harmonizer", "callbacks") for path in (ROOT / name).rglob("*.py"))

# Prefix of module names -> layer. The longest match counts.
LAYERS = {
    "harmonizer": 0,  # top-level modules: files, run, untrusted, signals
    "harmonizer.cli": 0,  # the command line and what it prints
    "harmonizer.functional": 0,  # the mathematics, on tensors
    "harmonizer.fast": 0,  # the same network layers in less time
    "harmonizer.statistics": 0,  # on numbers
    "harmonizer.results": 0,  # results folders
    "harmonizer.attacks": 1,
    "harmonizer.data": 1,
    "harmonizer.metrics": 1,
    "harmonizer.models": 1,
    "harmonizer.report": 1,
    "harmonizer.data.datamodule": 2,
    "harmonizer.training": 2,
    "harmonizer.evaluation": 2,
    "harmonizer.evaluation.compare": 1,  # programs import it before torch
    "harmonizer.export": 3,
    "callbacks": 3,
    "train": 4,
    "evaluate": 4,
}
BANNED = {  # package -> prefixes of the modules that may import it
    "hydra": (),
    "omegaconf": (),
    "lightning": ("callbacks", "harmonizer.training", "harmonizer.data.datamodule"),
}
FAST = "harmonizer.fast"  # other modules import from the package only, not from its modules
PUBLIC = "harmonizer"  # its imports are lazy, or for type checkers: tests/evaluation/test_python.py
WITHOUT_TORCH = ("harmonizer.report", "harmonizer.results", "harmonizer.statistics", "harmonizer.cli", "harmonizer.run")


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in FILES}


def layer(module):
    found = max((name for name in LAYERS if f"{module}.".startswith(f"{name}.")), key=len, default=None)
    return None if found is None else LAYERS[found]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path):
    module = name_of(path)
    if module == PUBLIC:
        return
    for imported in imports(path):
        below = layer(imported)
        assert below is None or below <= layer(module), f"{module} imports {imported}, which is above it"
        assert not imported.startswith(("train.", "evaluate.")), f"{module} imports a program"
        if imported in MODULES and imported.startswith(f"{FAST}."):
            assert module.startswith(FAST), f"{module} imports {imported}; import from {FAST}"
        package = imported.split(".")[0]
        if package in BANNED:
            assert module.startswith(BANNED[package] or ("nobody",)), f"{module} imports {package}"
        if package in ("torch", "torchvision", "lightning", "timm", "kornia"):
            assert not module.startswith(WITHOUT_TORCH), f"{module} imports {package}"


def test_the_modules_that_the_programs_of_tests_preload_exist():
    assert all(map(find_spec, IMPORTED))  # the server that imports them is silent about a missing one


def test_modules_without_torch_do_not_reach_it_indirectly():
    graph = {name_of(path): set(imports(path)) for path in FILES} | {PUBLIC: set()}
    for start in [module for module in graph if module.startswith(WITHOUT_TORCH)]:
        seen, waiting = set(), [start]
        while waiting:
            module = waiting.pop()
            if module in seen:
                continue
            seen.add(module)
            if module.split(".")[0] in ("torch", "lightning", "timm"):
                raise AssertionError(f"{start} reaches {module}")
            waiting += [found for found in graph.get(module, ()) if found in graph or found.split(".")[0] == "torch"]


def test_programs_have_at_most_60_lines():
    for name in ("train.py", "evaluate.py"):
        assert len((ROOT / name).read_text().splitlines()) <= 60


def test_callbacks_do_not_look_each_other_up():
    for path in (ROOT / "callbacks").glob("*.py"):
        text = path.read_text()
        assert "checkpoint_callback" not in text, path.name
        assert path.name == "evaluation.py" or "trainer.callbacks" not in text, path.name  # it notifies its listeners
