"""The documentation: its commands are valid, its code blocks run in page order, and the site builds."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import LANGUAGE, ROOT, blocks, calls, understand

import harmonizer

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = [path for path in PAGES if "```python" in path.read_text()]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
STORIES = [path for path in PAGES if "```bash" in path.read_text() and path.name != "README.md"]


def run(path, folder, monkeypatch, languages):
    """Run a page's code blocks of some languages in a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    for block in blocks(path):
        if block.region.lexemes[LANGUAGE] in languages:
            block.evaluate()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_on_a_page_is_valid(path, tmp_path):
    for block in blocks(path):
        if block.region.lexemes[LANGUAGE] == "bash":
            called = calls(block, tmp_path)
            assert called, f"{path.name}:{block.line} calls no program"
            for words in called:
                understand(words)


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_the_python_blocks_of_a_page_run(path, tmp_path, monkeypatch):
    run(path, tmp_path, monkeypatch, {"python"})


@pytest.mark.slow
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_blocks_of_a_page_run_in_order(path, tmp_path, monkeypatch):
    run(path, tmp_path, monkeypatch, {"python", "bash", "text"})


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs(path, tmp_path):
    copy = shutil.copy(path, tmp_path)  # a notebook runs in its own folder
    program = "from nbclient.cli import main; main()"
    command = [sys.executable, "-c", program, str(copy), "--output", str(tmp_path / "run"), "--timeout=600"]
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": programs, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run.ipynb").is_file()


def test_the_api_reference_lists_exactly_the_public_names():
    names = re.findall(r"^\.\. auto\w+:: harmonizer\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert sorted(names) == sorted(harmonizer.__all__)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-qW", "--keep-going", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_pages_load_nothing_from_other_hosts(site):
    for name, path in site.items():
        if name.endswith((".html", ".css")):
            text = path.read_text()
            fetched = re.findall(
                r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)", text
            )
            assert not fetched + re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)", text), name


@pytest.mark.slow
def test_every_internal_link_has_a_target(site):
    pages = {name: path.read_text() for name, path in site.items() if name.endswith(".html")}
    for name, text in pages.items():
        for link in re.findall(r"<a\b[^>]*href=\"([^\":]*)\"", text):
            file, _, anchor = link.partition("#")
            target = os.path.normpath(Path(name).parent / file) if file else name
            assert target in site, f"{name} links to {link}"
            assert not anchor or f'id="{anchor}"' in pages[target], f"{name} links to {link}"
