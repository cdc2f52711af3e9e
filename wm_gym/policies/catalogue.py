"""Where is an agent? In the catalogue that is shipped, in a folder, or on the Hub."""

from __future__ import annotations

from pathlib import Path

from wm_gym.common.files import digest, recover
from wm_gym.common.hub import fetched, is_hub_id
from wm_gym.policies.agent import TENSORS_FILE
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.worlds.catalogue import folders_of


def find_agent(source: str | Path) -> Path:
    """The folder or file of an agent.

    Args:
        source: A path, a name in the catalogue, or a Hub id, whose files are downloaded (no pickles).

    Raises:
        FileNotFoundError: Where there is none, naming the catalogue.
    """
    if recover(source).exists():
        return Path(source)
    shipped = catalogue()
    name = str(source).removeprefix("agents/").removeprefix("wm_gym/")
    if name in shipped:
        return shipped[name]
    nowhere = f"there is no agent {str(source)!r}; pass a folder or one of {sorted(shipped)}"
    if is_hub_id(source):
        return fetched(source, ["*.safetensors", "*.yml", "*.json", "*.md"], nowhere)
    raise FileNotFoundError(nowhere)


def digest_of_agent(source: str | Path) -> str:
    """A digest of an agent's tensors, or of a planner's config; "" where it has no folder."""
    folder = Path(source) if ":" in str(source) and not Path(source).exists() else find_agent(source)
    files = [folder / name for name in (TENSORS_FILE, CONFIG_FILE)] + sorted(folder.glob("*.safetensors"))
    return digest(next(([file] for file in files if file.is_file()), [folder] if folder.is_file() else []))


def catalogue() -> dict[str, Path]:
    """Name -> folder of every shipped agent."""
    return folders_of("agents", CONFIG_FILE)
