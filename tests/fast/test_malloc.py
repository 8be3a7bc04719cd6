"""Keeping freed memory, measured in a process of its own: the settings of an allocator cannot be read back."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from harmonizer.attacks import minimal_radius
from harmonizer.fast import fast
from harmonizer.fast.cpu import malloc as allocation
from harmonizer.fast.cpu.malloc import freed_memory_kept, keep_freed_memory, release_freed_memory

FAULTS = """
import ctypes
import resource
from harmonizer.fast.cpu.malloc import keep_freed_memory, release_freed_memory

SIZE = 2**24
library = ctypes.CDLL(None)
library.prctl(41, 1, 0, 0, 0)  # no huge pages
library.malloc.restype = ctypes.c_void_p

def work():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        blocks = [library.malloc(ctypes.c_size_t(SIZE)) for _ in range(10)]
        for block in blocks:
            ctypes.memset(block, 1, SIZE)
        for block in reversed(blocks):
            library.free(ctypes.c_void_p(block))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 2**20

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

work()
usual = work()
keep_freed_memory()
work()
kept, held = work(), resident()
release_freed_memory()
print(usual, kept, held, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_pages_are_kept_until_they_are_released():
    plain = {name: value for name, value in os.environ.items() if not name.startswith(allocation.GIVEN)}
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=plain)
    usual, kept, held, released = map(float, done.stdout.split())
    assert usual > 400  # MiB of newly mapped pages; the blocks are five times 160 MiB
    assert kept < 4
    assert released < held - 100


def test_contexts_can_be_nested(monkeypatch):
    passed = []
    monkeypatch.setattr(allocation, "_holders", 0)  # another test's fit may have failed
    monkeypatch.setattr(allocation, "_set", lambda options: passed.append(options))
    with pytest.raises(ZeroDivisionError), freed_memory_kept():
        keep_freed_memory()
        with freed_memory_kept():
            pass
        release_freed_memory()
        assert passed == [allocation.KEPT]
        raise ZeroDivisionError
    assert passed == [allocation.KEPT, allocation.USUAL]


@pytest.mark.parametrize("missing", [AttributeError, OSError, TypeError])
def test_nothing_is_set_with_another_c_library(monkeypatch, missing):
    def load(name):
        raise missing

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not allocation._set(allocation.KEPT)


def test_the_users_own_settings_are_not_changed(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("the allocator was asked"))
    for name in ("MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        with monkeypatch.context() as patched:
            patched.setenv(name, "1")
            assert not allocation._set(allocation.KEPT)


def test_attacks_keep_freed_memory_while_they_run(monkeypatch):
    monkeypatch.setattr(allocation, "_holders", 0)
    held = []

    def model(images):
        held.append(allocation._holders)
        return images.mean((2, 3))

    network = nn.Sequential(nn.Flatten(1))
    network.forward = model
    minimal_radius(network, torch.rand(1, 3, 4, 4), torch.zeros(1, dtype=torch.int64), attack="linsley2023")
    assert set(held) == {1}
    assert allocation._holders == 0


def test_only_the_mode_auto_keeps_freed_memory(monkeypatch):
    monkeypatch.setattr(allocation, "_holders", 0)
    monkeypatch.setattr(fast, "_keeps_memory", False)  # independent of earlier tests in this process
    held = []
    for mode in ("auto", "auto", "core", "off", "auto", "off"):
        fast.set(mode)
        held.append(allocation._holders)
    assert held == [1, 1, 0, 0, 1, 0]
    fast.set("auto")  # restore the default
