"""The Hugging Face Hub, online and offline."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

FILES = ("config.json", "model.safetensors", "pytorch_model.bin")  # files of a model in timm's format
PATIENCE = 5.0  # seconds; behind a firewall no answer comes at all


@contextmanager
def cache_only_when_offline() -> Iterator[None]:
    """Restrict the Hub's client to its cache if the Hub is unreachable.

    Otherwise the client tries each file six times, over a minute, and prints two lines per attempt.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_reachable(address: str) -> bool:
    """Return whether a server answers, with any status, through the environment's proxies."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # the client may know other certificates
    except OSError:
        return False


def fetch_folder(repository: str) -> Path:
    """Return the folder with the configuration and weights of a Hub model; download it if it is not cached.

    Args:
        repository: ``ORG/NAME`` or ``ORG/NAME@REVISION``.

    Raises:
        ValueError: The model is unknown, or it is not cached and cannot be downloaded.
    """
    name, _, revision = repository.partition("@")
    if len(name.split("/")) != 2:
        raise ValueError(f"expected hf-hub:ORG/NAME, got hf-hub:{repository}")
    try:
        with cache_only_when_offline():
            folder = snapshot_download(name, revision=revision or None, allow_patterns=list(FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        missing = isinstance(error, LocalEntryNotFoundError)
        reason = "the Hub cannot be reached" if missing else (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"hf-hub:{name} is not cached and cannot be downloaded ({reason}); check the name, or download it on a "
            "machine with a network, with HF_HOME in a folder that both machines see"
        ) from error
    return Path(folder)
