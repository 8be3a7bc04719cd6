"""The command; see :mod:`harmonizer.export`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harmonizer.cli import clear_errors, translate, unquoted
from harmonizer.evaluation.checkpoint import find_checkpoint
from harmonizer.evaluation.load import load
from harmonizer.evaluation.model_spec import is_checkpoint, resolve_model
from harmonizer.export import export, export_model, push
from harmonizer.export.brainscore import write_plugin
from harmonizer.models.factories import is_code

OPTIONS = ("ckpt", "out", "ema", "results", "model", "trust", "push", "brainscore")
VALUES: dict[str, tuple[type, ...]] = {  # options of names, with the types of their values
    **dict.fromkeys(("pretrained", "probe"), (bool,)),
    **dict.fromkeys(("num_classes", "image_size", "seed"), (int,)),
    **dict.fromkeys(("mean", "std"), (list,)),
    "class_names": (list, str),
}
TEXTS = ("weights", "prompts", "data")
USAGE = """\
usage: python -m harmonizer.export ckpt=FILE [ema=true] [model=FILE.py:FUNCTION] [out=DIR] [results=DIR] [push=ORG/NAME]
       python -m harmonizer.export model=NAME [pretrained=true] [weights=FILE] [KEY=VALUE ...] [out=DIR] [...]

  model=NAME takes names as in harmonizer.load: a timm model, torchvision:NAME, clip:NAME, FILE.py:FUNCTION or a folder,
  with num_classes, image_size, mean, std, model_args.KEY, seed; clip:NAME also prompts and class_names.
  probe=true data=demo|FOLDER fits the last linear layer to a training split.
  brainscore=DIR instead of out=DIR writes a plug-in for Brain-Score's vision library, named after the folder.
"""


@clear_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    words = translate(sys.argv[1:] if arguments is None else arguments)
    if any(word in ("-h", "--help") for word in words):
        sys.stdout.write(USAGE)
        return
    options = {name.lstrip("+"): unquoted(value) for name, _, value in (word.partition("=") for word in words)}
    if options.get("weights") in ("raw", "ema"):
        new = str(options["weights"] == "ema").lower()
        raise ValueError(f"expected a file in weights=FILE, got {options['weights']}; try ema={new}")
    named = "ckpt" not in options and "model" in options
    if named and is_checkpoint(options["model"]):
        options["ckpt"], named = options.pop("model"), False
    known = {*OPTIONS, *VALUES, *TEXTS} - {"ckpt", "ema", "trust"} if named else set(OPTIONS)
    unknown = [name for name in options if name not in known and not (named and name.startswith("model_args."))]
    if unknown or not {"ckpt", "model"} & options.keys():
        expected = ", ".join(sorted(known - {"ckpt", "model"}))
        got = unknown[0] if unknown else " ".join(words) or "nothing"
        raise ValueError(f"expected ckpt=FILE or model=NAME with options {expected}, got {got}; try --help")
    write = _of_name if named else _of_checkpoint
    out = _plugin(options, write) if "brainscore" in options else write(options)
    sys.stdout.write(f"model: {out}\n")
    if "push" in options:
        sys.stdout.write(f"pushed: {push(out, options['push'])}\n")


def _plugin(options: Mapping[str, str], write: Callable[[Mapping[str, str]], Path]) -> Path:
    """Write a plug-in folder with the exported model; return the folder."""
    excluded = next((name for name in ("out", "push") if name in options), None)
    if excluded is not None:
        raise ValueError(f"expected brainscore=DIR without {excluded}; it holds the exported model in DIR/weights")
    if is_code(options.get("model", "")):
        raise ValueError(
            f"expected a model without code of its own, got {options['model']}, because brainscore=DIR copies no code; "
            "try to write the plug-in's get_model by hand, with harmonizer.wrap"
        )
    return write_plugin(Path(options["brainscore"]), lambda folder: write({**options, "out": str(folder)}))


def _of_checkpoint(options: Mapping[str, str]) -> Path:
    """Export a checkpoint; return the folder."""
    ckpt = find_checkpoint(options["ckpt"])
    out = Path(options.get("out", ckpt.parent / "export"))
    ema, trust = (options.get(name, "false").lower() == "true" for name in ("ema", "trust"))
    return export(ckpt, out, ema=ema, results=_results(options), model=options.get("model"), trust=trust)


def _of_name(options: Mapping[str, str]) -> Path:
    """Export the model of a name; return the folder."""
    settings: dict[str, Any] = {name: options[name] for name in ("weights", "prompts") if name in options}
    settings |= {name: _value(name, options[name], kinds) for name, kinds in VALUES.items() if name in options}
    arguments = {name.partition(".")[2]: yaml.safe_load(options[name]) for name in options if "model_args." in name}
    settings |= {"model_args": arguments} if arguments else {}
    probe = settings.pop("probe", False)
    if bool(probe) != ("data" in options):
        raise ValueError(
            "expected probe=true together with data=demo|FOLDER, whose training split the probe is fitted to"
        )
    asked = {name: value for name, value in settings.items() if name != "num_classes"}
    spec = resolve_model(model=options["model"], probe=probe, **asked)
    out = Path(options.get("out", Path("export") / spec.label))
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another place with out=DIR")
    model = load(options["model"], probe=options["data"] if probe else None, **settings)
    return export_model(model, out, name=options["model"], origin=spec.origin, results=_results(options))


def _value(name: str, text: str, kinds: tuple[type, ...]) -> Any:  # noqa: ANN401 - one of the kinds
    """Parse the value of an option."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = {bool: "true or false", int: "a whole number", list: "a list, [A,B,C]", str: "a file"}
        raise ValueError(f"expected {name} to be {' or '.join(expected[kind] for kind in kinds)}, got {text}")
    return value


def _results(options: Mapping[str, str]) -> Path | None:
    return Path(options["results"]) if "results" in options else None


if __name__ == "__main__":
    main()
