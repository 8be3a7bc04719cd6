"""The command; see :mod:`harmonizer.export`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from harmonizer.cli import clear_errors, translate, unquoted
from harmonizer.evaluation.checkpoint import find_checkpoint
from harmonizer.export import export, push

OPTIONS = ("ckpt", "out", "ema", "results", "model", "trust", "push")
USAGE = (
    "usage: python -m harmonizer.export ckpt=FILE [out=DIR] [ema=true] [results=DIR] [model=FILE.py:FUNCTION] "
    "[push=ORG/NAME]"
)


@clear_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Export as the command line says."""
    words = translate(sys.argv[1:] if arguments is None else arguments)
    if any(word in ("-h", "--help") for word in words):
        sys.stdout.write(f"{USAGE}\n")
        return
    options = {name: unquoted(value) for name, _, value in (word.partition("=") for word in words)}
    unknown = options.keys() - set(OPTIONS)
    if options.get("weights") in ("raw", "ema"):
        raise ValueError(f"weights={options['weights']} is now ema={str(options['weights'] == 'ema').lower()}")
    if unknown or "ckpt" not in options:
        raise ValueError(
            f"expected ckpt=FILE and of {', '.join(OPTIONS[1:])}, got {' '.join(words) or 'nothing'}; {USAGE}"
        )
    ckpt = find_checkpoint(options["ckpt"])
    out = Path(options.get("out", ckpt.parent / "export"))
    results = Path(options["results"]) if "results" in options else None
    ema, trust = (options.get(name, "false").lower() == "true" for name in ("ema", "trust"))
    export(ckpt, out, ema=ema, results=results, model=options.get("model"), trust=trust)
    sys.stdout.write(f"model: {out}\n")
    if "push" in options:
        sys.stdout.write(f"pushed: {push(out, options['push'])}\n")


if __name__ == "__main__":
    main()
