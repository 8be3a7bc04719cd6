"""Jinja templates of the report."""

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def templates() -> Environment:
    """Return the environment of this package's templates; HTML templates escape values."""
    return Environment(
        loader=PackageLoader("harmonizer.report", ""),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
