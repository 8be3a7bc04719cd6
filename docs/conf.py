"""Settings of the documentation: ``python -m sphinx -W docs build/site`` builds it, without a network."""

from sphinx.application import Sphinx

import harmonizer

project = "Harmonizer"
author = "The Harmonizer authors"
release = harmonizer.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["slurm"]
nitpicky = True  # a reference to a public name that is not there is a warning
nitpick_ignore_regex = [("py:.*", r"(?!harmonizer\.\w+$).*")]  # the site has no page for other names
nb_execution_mode = "off"  # tests/docs/test_site.py runs them
nb_merge_streams = True
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
html_theme = "furo"  # its fonts are the reader's, and its scripts are in the folder: pages open from a disk
html_title = f"Harmonizer {release}"
html_show_sphinx = False
html_copy_source = False

# Files outside docs/ that pages here link to, and the page that has each.
PAGES = {"../benchmarks/README.md": "benchmarks.md", "../SECURITY.md": "security.md", "../CHANGELOG.md": "changelog.md"}


def link_pages(_: Sphinx, name: str, source: list[str]) -> None:
    """Point links to such files at their pages, except the directives that include them."""
    for file, page in PAGES.items():
        source[0] = source[0].replace(f"]({file}", f"]({page}")


def setup(app: Sphinx) -> None:
    """Connect what this file defines."""
    app.connect("source-read", link_pages)
