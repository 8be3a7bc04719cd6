"""The ``harmonizer`` command, from a wheel installed outside the checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from harmonizer.__main__ import MODULES, PROGRAMS, main

ROOT = Path(__file__).parents[2]
BUDGET = [
    "--model",
    "test_resnet",
    "recipe.epochs=1",
    "budget.steps_per_epoch=2",
    "images=4",
    "data.eval_batch_size=16",
]


def test_an_unknown_command_suggests_the_nearest_one(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "harmonizer: error: expected a command, got trian; did you mean train?\n"


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out.split()
    assert {*PROGRAMS, *MODULES} <= set(shown)


@pytest.mark.parametrize("name", MODULES)
def test_each_command_has_help(name):
    shown = subprocess.run(
        [sys.executable, "-m", "harmonizer", name, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage:")
    assert not shown.stderr


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("harmonizer ex", ["export"]),
        ("harmonizer train recipe=f", ["recipe=fel2022", "recipe=fel2022_original"]),
        ("harmonizer evaluate prob", ["probe", "probe_images"]),
        ("harmonizer report re", []),
    ],
)
def test_bash_completes_commands_and_settings(typed, expected, tmp_path):
    (tmp_path / "harmonizer").write_text(f'#!/bin/sh\nexec {sys.executable} -m harmonizer "$@"\n')
    (tmp_path / "harmonizer").chmod(0o755)
    lines = [
        'eval "$(harmonizer --completion)"',
        f"COMP_LINE='{typed}' COMP_POINT={len(typed)}",
        "_harmonizer",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(
        ["bash", "-c", "\n".join(lines)], capture_output=True, text=True, env=environment, check=True
    )
    assert [word.rstrip("=.") for word in shown.stdout.split()] == expected


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build the wheel and install it into an environment that has the dependencies but not the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", str(ROOT), "--no-deps", "--wheel-dir", str(folder)], check=True)
    (wheel,) = folder.glob("neural_harmonizer-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([*pip, f"--python={folder / 'env/bin/python'}", "install", "--no-deps", str(wheel)], check=True)
    return wheel, folder / "env/bin"


def run(installed, folder, *words):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(installed[1] / words[0]), *words[1:]]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_wheel_adds_one_package_to_the_import_path(installed, tmp_path):
    names = {name.split("/")[0] for name in zipfile.ZipFile(installed[0]).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"harmonizer"}
    for name in ("callbacks", "configs", "train", "evaluate"):
        assert run(installed, tmp_path, "python", "-c", f"import {name}").returncode == 1


@pytest.mark.slow
def test_installed_commands_run_in_an_empty_folder(installed, tmp_path):
    trained = run(installed, tmp_path, "harmonizer", "train", "--harmonize", *BUDGET)
    assert trained.returncode == 0, trained.stderr
    checkpoint = "runs/test_resnet/harmonized/seed-0/best.ckpt"
    assert f"next: harmonizer evaluate ckpt={checkpoint}" in trained.stdout
    measured = run(installed, tmp_path, "harmonizer", "evaluate", f"ckpt={checkpoint}", "images=4", "attack=pgd")
    assert measured.returncode == 0, measured.stderr
    reported = run(installed, tmp_path, "harmonizer", "report", "results", "--out", "page")
    assert reported.returncode == 0, reported.stderr
    exported = run(installed, tmp_path, "harmonizer", "export", f"ckpt={checkpoint}", "out=model")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "model/model.safetensors").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "page", "results", "runs"]


@pytest.mark.slow
def test_the_installed_command_trains_in_two_processes(installed, tmp_path):
    two = ["trainer.accelerator=cpu", "trainer.devices=2", "folder=run"]
    trained = run(installed, tmp_path, "harmonizer", "train", *BUDGET, *two)
    assert trained.returncode == 0, trained.stderr
    assert "2 processes" in trained.stdout
    assert (tmp_path / "run/best.ckpt").is_file()
