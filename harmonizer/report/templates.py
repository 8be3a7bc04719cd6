"""Templates of texts, which name the values that they show."""

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def templates() -> Environment:
    """Return the templates of this package; those of HTML escape what they show."""
    return Environment(
        loader=PackageLoader("harmonizer.report", ""),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
