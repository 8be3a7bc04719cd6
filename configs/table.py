"""The table of recipes from the configs: ``python -m configs.table``; ``--write`` puts it into docs/recipes.md."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "recipes.md"
START, END = "<!-- recipes: python -m configs.table --write -->\n", "<!-- end of recipes -->"
RECIPES = ("fel2022", "fel2022_original", "pseudo2023", "modern")  # in the order of their years
FROM_DATA = "the data's"  # what a recipe leaves to the data config


def read_recipe(name: str) -> dict[str, tuple[str, str]]:
    """Read a recipe's settings with the source that each names, as written in its file.

    >>> read_recipe("fel2022")["levels"][0]
    '5'
    """
    settings = {}
    for line in (HERE / "recipe" / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            key, _, rest = line.partition(": ")
            value, _, source = rest.partition(" # ")
            settings[key] = (value.strip(), source.strip())
    del settings["name"]
    return settings


def table() -> str:
    """Write a column a recipe and a line a setting; what is not ``fel2022``'s stands in bold, with its source."""
    recipes = {name: read_recipe(name) for name in RECIPES}
    keys = list(dict.fromkeys(key for settings in recipes.values() for key in settings))
    lines = [f"| setting | {' | '.join(f'`{name}`' for name in RECIPES)} |", f"|---|{'---|' * len(RECIPES)}"]
    for key in keys:
        cells = []
        for settings in recipes.values():
            value, source = settings.get(key, (FROM_DATA, ""))
            same = value == recipes["fel2022"].get(key, (FROM_DATA, ""))[0]
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
