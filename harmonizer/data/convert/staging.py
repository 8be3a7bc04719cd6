"""A folder that is written piece by piece, can be resumed after any interruption, and appears when complete."""

import fcntl
import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from harmonizer.data.convert.job import Report
from harmonizer.data.convert.maps import PARTICIPANTS
from harmonizer.data.shards.manifest import Manifest, parse_shard, write_manifest
from harmonizer.files import atomic_write, file_sha256
from harmonizer.untrusted import parse_json

PLAN = "plan.json"
LOCK = "lock"


class Staging:
    """The unfinished state of a folder of shards.

    A hidden folder next to the final one holds the plan, the finished shards and a report for each. A report is written
    after its shard, so a shard with a report is complete. One process at a time may hold the lock.

    Args:
        folder: Final folder; it must not exist.
        plan: Sources and options, which identify a conversion.
        restart: Discard an interrupted conversion, whatever its plan.

    Raises:
        FileExistsError: ``folder`` exists, or another process is writing it.
        ValueError: An interrupted conversion into ``folder`` had another plan.
    """

    def __init__(self, folder: Path, plan: dict[str, Any], *, restart: bool = False) -> None:
        self.folder = folder
        self.root = folder.with_name(f".{folder.name}.partial")
        self.data = self.root / "data"
        self.reports = self.root / "reports"
        if folder.exists():
            self._sweep()
            raise self._taken()
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] = (self.root / LOCK).open("w")
        try:
            if not self._hold(self._lock):
                raise FileExistsError(f"another conversion into {folder} is running")
            if folder.exists():  # it has appeared since the check above
                if self._is_over():
                    self.drop()
                raise self._taken()
            if restart:
                self._clear()
            self._start(json.dumps(plan, sort_keys=True, indent=1))
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def _taken(self) -> FileExistsError:
        return FileExistsError(f"{self.folder} exists already; remove it or name another folder")

    def _hold(self, lock: IO[str]) -> bool:
        """Take the lock until this process ends; return False if another holds it or has just removed its file."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(lock.fileno()), (self.root / LOCK).stat())
        except OSError:
            return False

    def _is_over(self) -> bool:
        """Return whether only the remains of a published conversion are left."""
        return {path.name for path in self.root.iterdir()} <= {LOCK, PLAN, self.reports.name}

    def _sweep(self) -> None:
        """Remove the remains of a conversion that was killed after its folder had appeared."""
        try:
            with (self.root / LOCK).open("r+") as lock:
                if self._hold(lock) and self._is_over():
                    self.drop()
        except FileNotFoundError:  # nothing is left, or another process is cleaning up, or was killed while doing so
            with suppress(OSError):
                self.root.rmdir()

    def _clear(self) -> None:
        """Remove everything but the lock."""
        for path in self.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=path == self.data)  # an orphaned worker may still be writing there
            elif path.name != LOCK:
                path.unlink(missing_ok=True)

    def _start(self, plan: str) -> None:
        """Write the plan of a new conversion, or check that it is the plan of the interrupted one."""
        path = self.root / PLAN
        if path.is_file() and path.read_text() != plan:
            raise ValueError(
                f"an interrupted conversion into {self.folder} had other sources or options; "
                f"rerun that command, or add --restart to discard it"
            )
        self.data.mkdir(exist_ok=True)
        self.reports.mkdir(exist_ok=True)
        atomic_write(path, plan, durable=True)

    def finished(self) -> dict[int, Report]:
        """Return the reports of the finished shards, and remove all other files."""
        reports: dict[int, Report] = {}
        for path in sorted(self.reports.glob("[0-9]*.json")):
            content = parse_json(path.read_text())
            shard = parse_shard(content["shard"])
            tar = self.data / shard.file
            if shard.samples == 0 or (tar.is_file() and file_sha256(tar) == shard.sha256):
                problems = [(file, record, reason) for file, record, reason in content["problems"]]
                counts = {name: content[name] for name in ("kept_maps", "turned", "outside")}
                reports[int(path.stem)] = Report(shard, problems, **counts)
        known = {report.shard.file for report in reports.values() if report.shard.samples}
        for path in self.data.iterdir():
            if path.is_file() and path.name not in known:
                path.unlink()
        for path in (self.data / PARTICIPANTS).glob(".*"):
            path.unlink()
        return reports

    def keep(self, index: int, report: Report) -> None:
        """Record that a shard is finished."""
        atomic_write(self.reports / f"{index:06d}.json", json.dumps(asdict(report)), durable=True)

    def publish(self, manifest: Manifest) -> None:
        """Write the manifest and rename the folder to its final name."""
        for path in self.data.rglob(".*"):  # left by a worker that outlived an earlier run
            path.unlink()
        write_manifest(self.data, manifest)
        self.data.rename(self.folder)
        self.drop()

    def drop(self) -> None:
        """Remove everything, the lock last; the next run removes what cannot be removed now."""
        with suppress(OSError):
            self._clear()
            (self.root / LOCK).unlink()
            self.root.rmdir()
