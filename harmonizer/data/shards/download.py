"""Download files once, resuming interrupted transfers, and check them."""

import base64
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from harmonizer.data.progress import Progress
from harmonizer.files import file_sha256
from harmonizer.untrusted import inside, parse_json

ATTEMPTS = 6  # per file; each resumes where the last broke off
PAUSE = 0.5  # seconds before the second attempt, doubled for each later one
TIMEOUT = 60  # seconds without data
CHUNK = 1 << 20  # bytes
PARALLEL = 4  # files
DIGITS = re.compile(r"\d{1,18}", re.ASCII)
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses worth another attempt


def is_url(source: str) -> bool:
    """Return whether a source is an http(s) address."""
    return source.lower().startswith(("http://", "https://"))


def fetch_all(sources: Sequence[str], cache: Path, progress: Progress) -> list[Path]:
    """Return the paths of sources, after downloading those at an address, several at a time."""
    urls = [source for source in sources if is_url(source)]
    with progress.task("downloading (bytes)") as advance, ThreadPoolExecutor(PARALLEL) as pool:
        futures = {url: pool.submit(fetch, url, cache, advance=advance) for url in urls}
        try:
            paths = {url: future.result() for url, future in futures.items()}
        finally:
            pool.shutdown(cancel_futures=True)
    return [paths[source] if is_url(source) else Path(source) for source in sources]


def fetch(url: str, cache: Path, *, advance: Callable[[int], None] = lambda amount: None) -> Path:
    """Download a file unless it is already in the cache.

    Args:
        url: http(s) address. It may end with ``#sha256=HEX``, the expected checksum. The length and the MD5
            (``x-goog-hash``) that the server announces are always checked.
        cache: Folder of downloads.
        advance: Called with the number of bytes received since the last call.

    Returns:
        Path of the file, which keeps its name, in a folder of its own.

    Raises:
        ValueError: The checksum or the length is wrong, or the address does not end with a file name.
        OSError: The server cannot be reached or refuses the request.
    """
    address, _, fragment = url.partition("#")
    wanted = fragment.removeprefix("sha256=").lower() if fragment.startswith("sha256=") else None
    name = unquote(urlsplit(address).path.rpartition("/")[2]) or "index"
    try:
        path = inside(cache / hashlib.sha256(address.encode()).hexdigest()[:16], name)
    except ValueError as error:
        raise ValueError(f"{address}: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".lock")):  # another process may download the same file
        if not path.is_file():
            _download(address, path, advance)
    if wanted is not None and file_sha256(path) != wanted:
        found = file_sha256(path)
        path.unlink()
        raise ValueError(f"{address}: sha256 is {found}, expected {wanted}; the file was removed")
    return path


def _download(address: str, path: Path, advance: Callable[[int], None]) -> None:
    """Download a file, in several attempts if necessary; it gets its name when complete."""
    part = path.with_name(f".{path.name}.part")
    for attempt in range(ATTEMPTS):
        try:
            _receive(address, part, advance)
            part.replace(path)
            _state(part).unlink(missing_ok=True)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in TRANSIENT or attempt == ATTEMPTS - 1:
                raise OSError(f"{address}: the server answered {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS - 1:
                raise OSError(f"{address}: {error or repr(error)}; rerun the same command to resume") from None
        time.sleep(PAUSE * 2**attempt)


def _receive(address: str, part: Path, advance: Callable[[int], None]) -> None:
    """Receive the rest of a file and check it.

    Raises:
        OSError: The transfer broke off; the received part is kept.
        ValueError: The complete file is not what the server announced.
    """
    start, request = 0, urllib.request.Request(address)
    if part.is_file() and _version(_headers(part)):
        start = part.stat().st_size
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", _version(_headers(part)))
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        length = headers.get("content-length", "")
        total = int(length) if DIGITS.fullmatch(length) else None
        if response.status == 206:
            total = _total(headers, start)
            if not start or total is None:
                part.unlink(missing_ok=True)  # the next attempt starts again
                sent = headers.get("content-range", "a part of the file")
                raise OSError(f"the server sent {sent!r}, expected bytes from {start}")
        else:
            start = 0
            _state(part).write_text(json.dumps(headers))
        with part.open("ab" if start else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    received = part.stat().st_size
    if total is not None and received < total:
        raise OSError(f"the transfer broke off after {received} of {total} bytes")
    hashes = _headers(part).get("x-goog-hash", "")
    announced = next((item.strip()[4:] for item in hashes.split(",") if item.strip().startswith("md5=")), None)
    with part.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
    if (total is not None and received > total) or announced not in (None, found):
        part.unlink()
        _state(part).unlink()
        raise ValueError(f"{address}: the received file is not what the server announced; run the command again")


def _total(headers: dict[str, str], start: int) -> int | None:
    """Return the length of a file from a response with its bytes from ``start``; None if it has others."""
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", headers.get("content-range", ""), re.ASCII)
    if found is None or int(found[1]) != start:
        return None
    return int(found[2]) + 1 if found[3] == "*" else int(found[3])


def _headers(part: Path) -> dict[str, str]:
    """Return the server's headers for a partial file; an empty dict if they are damaged or missing."""
    try:
        content = parse_json(_state(part).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) and all(isinstance(value, str) for value in content.values()) else {}


def _version(headers: dict[str, str]) -> str:
    """Return the version (strong ETag or date) of a file on the server; empty if it has none."""
    tag = headers.get("etag", "")
    version = tag if tag and not tag.startswith("W/") else headers.get("last-modified", "")
    return version if version.isascii() and version.isprintable() else ""


def _state(part: Path) -> Path:
    """Return the path of the server's headers for a partial file."""
    return part.with_suffix(".headers")
