"""Models from the user's own code: a function or class in a file or an importable module, ``net.py:make``.

Resolving such a name runs its code. Callers pass only names that the user typed. Names in checkpoints, results folders
and lists are refused where these are read, unless ``trust=true``.
"""

import ast
import difflib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from harmonizer.models.architecture import AS_IT_IS, Architecture
from harmonizer.models.model_args import plain_args

CODE = re.compile(r"(?P<place>.+\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*)")


def is_code(name: str) -> bool:
    """Return whether a name stands for code, which runs when the name is resolved.

    >>> is_code("nets/mine.py:make"), is_code("package.nets:Net"), is_code("torchvision:resnet18"), is_code("resnet50")
    (True, True, False, False)
    """
    return CODE.fullmatch(name) is not None and not name.startswith(("torchvision:", "clip:", "hf_hub:"))


def resolve(name: str) -> Architecture:
    """Return the architecture of a function or class; its attributes describe the preparation of images.

    Args:
        name: ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``. The function may have the attributes ``mean`` and ``std``
            (three numbers each; without them images in [0,1] are not normalised), ``size`` (pixels) and ``classes``.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The module or function does not exist, or an attribute is invalid.
    """
    make = find(name)
    size, classes = getattr(make, "size", None), getattr(make, "classes", None)
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError(f"{name}: expected the attribute size to be a number of pixels, got {size!r}")
    names = None if classes is None else tuple(str(each) for each in classes)
    made = Architecture("factory", name, size=size, classes=names, num_classes=None if names is None else len(names))
    return made.fed(getattr(make, "mean", AS_IT_IS[0]), getattr(make, "std", AS_IT_IS[1]))


def build(architecture: Architecture, num_classes: int | None) -> nn.Module:
    """Call the user's function, with ``num_classes`` if it takes that, and return the model.

    Raises:
        ValueError: The function needs other arguments, fails, or does not return an ``nn.Module``.
    """
    name = architecture.name
    make, arguments = find(name), plain_args(architecture.model_args)
    signature = inspect.signature(make)
    if num_classes is not None and "num_classes" in signature.parameters:
        arguments = {"num_classes": num_classes} | arguments
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{name} cannot be called: {error}; try model_args.KEY=VALUE, or give its arguments defaults"
        ) from None
    with _importable(name):
        try:
            model = make(**arguments)
        except Exception as error:  # any: it is the user's code
            raise ValueError(f"{name} failed: {_described(error)}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected {name} to return a torch.nn.Module, got {type(model).__name__}")
    return model


def find(name: str) -> Callable[..., Any]:
    """Import a function or class.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The module or function does not exist, or the import fails.
    """
    match = CODE.fullmatch(name)
    assert match is not None
    place, function = match["place"], match["function"]
    if place.endswith(".py") and not Path(place).is_file():
        raise FileNotFoundError(f"no file at {place}; expected FILE.py:FUNCTION")
    module = _module(str(Path(place).resolve()) if place.endswith(".py") else place, name)
    found: Callable[..., Any] | None = getattr(module, function, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        nearest = [key for key in known if key.lower() == function.lower()]
        nearest = nearest or difflib.get_close_matches(function, known, n=2, cutoff=0.5)
        hint = f"; did you mean {' or '.join(f'{place}:{each}' for each in nearest)}?" if nearest else ""
        raise ValueError(f"{place} has no function or class {function}{hint}")
    return found


def defined(path: Path) -> list[str]:
    """Return the names of the public functions and classes in a Python file, without running it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


@cache
def _module(place: str, name: str) -> ModuleType:
    """Import a file or a module, once per process."""
    with _importable(name):
        try:
            if not place.endswith(".py"):
                return importlib.import_module(place)
            unique = f"harmonizer_own_{sha256(place.encode()).hexdigest()[:12]}"
            spec = importlib.util.spec_from_file_location(unique, place)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[unique] = module
            spec.loader.exec_module(module)
        except ModuleNotFoundError as error:
            if error.name and f"{place}.".startswith(f"{error.name}."):
                meant = difflib.get_close_matches(place, ("torchvision", "clip", "hf-hub", "local-dir"), n=1)
                hint = f"; did you mean {meant[0]}:{name.partition(':')[2]}?" if meant else ""
                raise ValueError(f"there is no module {place}, expected MODULE:FUNCTION{hint}") from None
            raise ValueError(f"{name} cannot be imported: {_described(error)}") from error
        except Exception as error:  # any: it is the user's code
            raise ValueError(f"{name} cannot be imported: {_described(error)}") from error
    return module


@contextmanager
def _importable(name: str) -> Iterator[None]:
    """Make the modules next to the file importable, as ``python FILE.py`` does, or those in the working directory."""
    place = name.rpartition(":")[0]
    folder = str(Path(place).resolve().parent) if place.endswith(".py") else str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _described(error: BaseException) -> str:
    """Return the type and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
