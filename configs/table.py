"""Print the table of recipes: ``python -m configs.table``; ``--write`` updates docs/recipes.md."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "recipes.md"
START, END = "<!-- recipes: python -m configs.table --write -->\n", "<!-- end of recipes -->"
RECIPES = ("fel2022", "fel2022_original", "pseudo2023", "modern", "joint")  # ordered by year
FROM_DATA = "the data's"  # cell of a setting that the data config decides
BASE = re.compile(r"^defaults: \[(\w+), _self_\]", re.MULTILINE)  # the recipe that a recipe inherits from
# Settings whose defaults are in configs/train.yaml.
DEFAULT = re.compile(r"^(\w+): \$\{oc\.select:recipe\.\1,([^}]*)\}", re.MULTILINE)


def read_recipe(name: str) -> dict[str, tuple[str, str]]:
    """Read a recipe's settings and their sources, as written in its file.

    >>> read_recipe("fel2022")["levels"][0]
    '5'
    >>> read_recipe("joint")["saliency_of"][0]
    'log_odds'
    """
    text = (HERE / "recipe" / f"{name}.yaml").read_text(encoding="utf-8")
    settings = {key: pair for base in BASE.findall(text) for key, pair in read_recipe(base).items()}
    for line in text.splitlines():
        if line and not line.startswith(("#", " ", "defaults:")):
            key, _, rest = line.partition(": ")
            value, _, source = rest.partition(" # ")
            settings[key] = (value.strip(), source.strip())
    del settings["name"]
    return settings


def table() -> str:
    """Return the table, with one column per recipe; differences from ``fel2022`` are bold, with their source."""
    recipes = {name: read_recipe(name) for name in RECIPES}
    defaults = dict(DEFAULT.findall((HERE / "train.yaml").read_text(encoding="utf-8")))
    keys = list(dict.fromkeys(key for settings in recipes.values() for key in settings))
    lines = [f"| setting | {' | '.join(f'`{name}`' for name in RECIPES)} |", f"|---|{'---|' * len(RECIPES)}"]
    for key in keys:
        cells = []
        for settings in recipes.values():
            missing = (defaults.get(key, FROM_DATA), "")
            value, source = settings.get(key, missing)
            same = value == recipes["fel2022"].get(key, missing)[0]
            shown = value if value == FROM_DATA else f"`{value}`"
            note = f" ({source.replace('|', '/')})" if source and (not same or settings is recipes["fel2022"]) else ""
            cells.append(f"{shown if same else f'**{shown}**'}{note}")
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return a page with the table between its markers replaced."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{table()}{END}{after}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(table())
