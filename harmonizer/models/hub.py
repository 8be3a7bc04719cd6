"""The Hugging Face Hub, from which timm takes published weights, on machines with and without a network."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants

PATIENCE = 5.0  # seconds for an answer; a node behind a firewall gets none at all


@contextmanager
def cache_only_when_offline() -> Iterator[None]:
    """Let the Hub's client look into its cache only while the Hub cannot be reached.

    Otherwise the client tries each file six times, over a minute, and prints two lines for each time.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_reachable(address: str) -> bool:
    """Return whether a server answers, whatever it says, through the environment's proxies."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # the client may know other certificates
    except OSError:
        return False


def how_to_get(model: str) -> str:
    """Say how to use a model's published weights on a machine without a network."""
    return (
        f"""where there is a network, run python -c "import timm; timm.create_model('{model}', pretrained=True)" """
        "with HF_HOME in a folder that both machines see, then set the same HF_HOME here; or give weights=FILE"
    )
