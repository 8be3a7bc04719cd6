"""Parsers of the commands that Hydra does not read."""

import argparse


def parser_of(module: str, doc: str | None) -> argparse.ArgumentParser:
    r"""Return a parser for ``python -m MODULE`` with its docstring as help; a colon ends the summary.

    >>> parser_of("x", "Do it: ``python -m x``.\n\nSlowly.").format_help().split("\n\n")[1]
    'Do it.'
    """
    summary, _, rest = (doc or "").partition("\n\n")
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=summary.partition(":")[0].removesuffix(".") + ".",
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """Return a positive integer.

    Raises:
        ValueError: It is none.
    """
    number = int(text)
    if number < 1:
        raise ValueError
    return number
