"""Upload an exported folder to the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from harmonizer.untrusted import LONGEST_TEXT


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the Hugging Face Hub, with the token of ``hf auth login``; return its address.

    Args:
        folder: Made by :func:`export`.
        repository: ``ORG/NAME``; made, private, where there is none.

    Raises:
        ValueError: The name is malformed, or the Hub refuses it or cannot be reached.
    """
    api = HfApi()
    try:
        if repository.count("/") != 1:
            raise ValueError(f"expected ORG/NAME, got {repository}")
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Model, config and card")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:LONGEST_TEXT]
        raise ValueError(f"cannot push {folder} to {repository}: {reason}; it is still there") from None
    return str(address)
