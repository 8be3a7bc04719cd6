"""Interrupted and parallel conversions write the same bytes as an undisturbed one."""

import os
import random
import signal
import time

import programs
import pytest
from shard_data import contents
from tf_records import build_example, read_records, write_records

from harmonizer.data.convert.staging import Staging


@pytest.fixture
def source(clickme_file, clickme_features):
    """Two files of 12 records each; one record of the second is unusable."""
    first, second = clickme_file(12, "a.tfrecords"), clickme_file(12, "b.tfrecords", first=50)
    payloads = list(read_records(second))
    payloads[5] = build_example(clickme_features(5) | {"label": []})
    write_records(second, payloads)
    return first, second


def command(source, out, workers):
    options = ("--out", out, "--shard-size", 2, "--on-error", "skip", "--workers", workers)
    return [str(argument) for argument in (*source, *options)]


@pytest.fixture
def undisturbed(source, convert, tmp_path):
    assert convert(*command(source, tmp_path / "undisturbed", 1))[0] == 3
    return contents(tmp_path / "undisturbed")


CONVERT = ("-m", "harmonizer.data.convert")


def reports(out):
    return len(list(out.with_name(f".{out.name}.partial").glob("reports/0*.json")))


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(workers, source, undisturbed, convert, tmp_path):
    assert convert(*command(source, tmp_path / "out", workers))[0] == 3
    assert contents(tmp_path / "out") == undisturbed
    assert {path.name for path in tmp_path.iterdir()} == {"out", "undisturbed", *(file.name for file in source)}


def kill_and_resume(source, out, workers, shards):
    """Kill the converter's main process once this many shards are done; then run it to the end."""
    process = programs.start(os.devnull, os.devnull, [*CONVERT, *command(source, out, workers)])
    while process.is_alive() and reports(out) < shards:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    killed_at = reports(out)
    assert not out.exists() or killed_at == 0
    if not out.exists():
        done = programs.run([*CONVERT, *command(source, out, workers)])
        assert done.returncode == 3, done.stderr
    return killed_at


@pytest.mark.parametrize(("workers", "shards"), [(1, 4), (2, 3)])
def test_a_killed_conversion_resumes_to_the_same_bytes(workers, shards, source, undisturbed, tmp_path):
    killed_at = kill_and_resume(source, tmp_path / "out", workers, shards)
    assert shards <= killed_at < 12
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_kill_at_a_random_moment_changes_no_bytes(seed, source, undisturbed, tmp_path):
    generator = random.Random(seed)
    workers, out = generator.choice((1, 2)), tmp_path / "out"
    process = programs.start(os.devnull, os.devnull, [*CONVERT, *command(source, out, workers)])
    while process.is_alive() and not out.with_name(".out.partial").exists():
        time.sleep(0.002)
    time.sleep(generator.uniform(0, 0.6 if workers == 1 else 3))
    process.kill()
    process.join()
    complete = out.exists()  # the next run removes what was left next to it
    assert process.exitcode == -signal.SIGKILL or (complete and process.exitcode == 3)
    done = programs.run([*CONVERT, *command(source, out, workers)])
    assert done.returncode == (1 if complete else 3), done.stderr
    assert ("exists already" in done.stderr) == complete
    assert contents(out) == undisturbed
    assert not out.with_name(".out.partial").exists()


def test_a_kill_before_cleanup_leaves_a_complete_result(source, undisturbed, convert, tmp_path, monkeypatch):
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    monkeypatch.setattr(Staging, "drop", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert convert(*command(source, out, 1))[0] == 130
    monkeypatch.undo()
    assert partial.exists()
    assert contents(out) == undisturbed
    status, message = convert(*command(source, out, 1))
    assert (status, "exists already" in message) == (1, True)
    assert not partial.exists()
    assert contents(out) == undisturbed


def test_damaged_partial_shards_are_written_again(source, undisturbed, convert, tmp_path, monkeypatch):
    out, kept = tmp_path / "out", []

    def stop(staging, number, report):
        original(staging, number, report)
        kept.append(number)
        if len(kept) == 5:
            raise KeyboardInterrupt

    original = Staging.keep
    monkeypatch.setattr(Staging, "keep", stop)
    assert convert(*command(source, out, 1)) == (130, "convert: interrupted; rerun the same command to resume\n")
    monkeypatch.undo()
    data = tmp_path / ".out.partial" / "data"
    (data / "000001.tar").write_bytes((data / "000001.tar").read_bytes()[:512])  # cut at a block
    (data / "000002.tar").unlink()
    (data / ".000007.tar.99").write_bytes(b"of a killed worker")
    (data / "000008.tar").write_bytes(b"written, but not reported")
    assert convert(*command(source, out, 1))[0] == 3
    assert contents(out) == undisturbed


def test_resuming_with_other_sources_or_options_is_refused(source, convert, tmp_path, monkeypatch):
    monkeypatch.setattr(Staging, "keep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    convert(*command(source, tmp_path / "out", 1))
    monkeypatch.undo()
    other = [*command(source, tmp_path / "out", 1), "--prepare", "none"]
    status, message = convert(*other)
    assert (status, "other sources or options" in message, "--restart" in message) == (1, True, True)
    source[0].touch()
    assert convert(*command(source, tmp_path / "out", 1))[0] == 1
    assert convert(*other, "--restart")[0] == 3


@pytest.mark.parametrize("more", [(), ("--restart",)])
def test_a_second_conversion_into_a_folder_is_refused(more, source, convert, tmp_path):
    with Staging(tmp_path / "out", {}) as staging:
        status, message = convert(*command(source, tmp_path / "out", 1), *more)
        assert (status, "another conversion into" in message) == (1, True)
        assert staging.data.exists()


def test_the_next_run_removes_leftover_files(source, convert, tmp_path):
    partial = tmp_path / ".out.partial"
    with Staging(tmp_path / "out", {}) as staging:
        (staging.data / "a").touch()
        staging.data.rename(tmp_path / "out")
        staging.data.mkdir()
        (staging.data / "late").touch()  # written by a killed worker that has not exited yet
        staging.drop()
    partial.mkdir(exist_ok=True)  # as if killed just before the end
    assert convert(*command(source, tmp_path / "out", 1))[0] == 1
    assert not partial.exists()


def test_a_stale_lock_file_does_not_admit_two_conversions(tmp_path, monkeypatch):
    """Between opening and locking the lock file, the previous conversion removes it and another one starts."""
    first, second = Staging(tmp_path / "out", {}), []
    original = Staging._hold

    def late(staging, lock):
        if not second:
            second.append(None)
            first.drop()
            first._lock.close()
            second[0] = Staging(tmp_path / "out", {"of": "another"})
        return original(staging, lock)

    monkeypatch.setattr(Staging, "_hold", late)
    with pytest.raises(FileExistsError, match="another conversion into"):
        Staging(tmp_path / "out", {}, restart=True)
    with second[0] as going_on:
        assert going_on.data.exists()


def test_foreign_files_in_the_partial_folder_are_kept(source, convert, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.partial").mkdir()
    for name in ("lock", "mine.txt"):
        (tmp_path / ".out.partial" / name).touch()
    assert convert(*command(source, tmp_path / "out", 1))[0] == 1
    assert (tmp_path / ".out.partial" / "mine.txt").exists()


def test_partial_work_survives_an_existing_output_folder(source, convert, tmp_path, monkeypatch):
    monkeypatch.setattr(Staging, "keep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    convert(*command(source, tmp_path / "out", 1))
    monkeypatch.undo()
    (tmp_path / "out").mkdir()
    status, message = convert(*command(source, tmp_path / "out", 1))
    assert (status, "exists already" in message) == (1, True)
    (tmp_path / "out").rmdir()
    assert (tmp_path / ".out.partial" / "data").exists()
    assert convert(*command(source, tmp_path / "out", 1))[0] == 3


def test_an_existing_folder_is_left_alone(source, convert, tmp_path):
    (tmp_path / "out").mkdir()
    status, message = convert(*command(source, tmp_path / "out", 1))
    assert (status, "exists already" in message) == (1, True)
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / ".out.partial").exists()
