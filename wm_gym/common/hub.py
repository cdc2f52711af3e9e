"""How do files come from the Hugging Face Hub? Only those of given kinds, and one error for all that can go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def is_hub_id(source: str | Path) -> bool:
    """Whether it can be the name of a repository, user/repo."""
    return str(source).count("/") == 1 and not str(source).startswith((".", "~", "/"))


def fetched(repository: str | Path, kinds: list[str], otherwise: str, **options: Any) -> Path:
    """The folder of a repository's files.

    Args:
        repository: Its id.
        kinds: The patterns of the files that are fetched.
        otherwise: What the error says first: where else it was looked for.
        **options: More of huggingface_hub's `snapshot_download`.

    Raises:
        FileNotFoundError: Where the Hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(repository), allow_patterns=kinds, **options))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise FileNotFoundError(f"{otherwise}; the Hub did not give it: {error}") from error
