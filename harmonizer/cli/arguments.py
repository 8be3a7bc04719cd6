"""Argument parsers of the commands that do not use Hydra."""

import argparse


def parser_of(module: str, doc: str | None) -> argparse.ArgumentParser:
    r"""Return a parser for ``python -m MODULE``, whose help is the docstring; the summary ends at a colon.

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
    """Parse a positive integer.

    Raises:
        ValueError: The text is not a positive integer.
    """
    number = int(text)
    if number < 1:
        raise ValueError
    return number
