"""Where is a world? In the catalogue that is shipped, in a folder, or on the Hub."""

from pathlib import Path

from wm_gym.common.files import recover
from wm_gym.common.hub import fetched, is_hub_id
from wm_gym.worlds.spec import SPEC_FILE


def folders_of(catalogue: str, mark: str) -> dict[str, Path]:
    """Name -> folder of all that is shipped in a catalogue, "envs" or "agents".

    It lies in the package (a wheel), then beside it (a checkout).

    Args:
        catalogue: The catalogue's folder.
        mark: The file that every entry has.
    """
    package = Path(__file__).resolve().parents[1]
    roots = [package / catalogue]
    if (package.parent / "setup.py").is_file():  # else the folder beside us is some other distribution's
        roots.append(package.parent / catalogue)
    folders: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.glob(f"*/{mark}")):
            folders.setdefault(path.parent.name, path.parent)
    return folders


def catalogue_folders() -> dict[str, Path]:
    """Name -> folder of every shipped world."""
    return folders_of("envs", SPEC_FILE)


def find_world(path_or_id: str | Path) -> Path:
    """The folder of a world: a path, a catalogue name, or a Hub id (downloaded, safetensors only)."""
    folder = recover(path_or_id)
    if folder.is_dir():
        return folder
    shipped = catalogue_folders()
    name = str(path_or_id).removeprefix("wm_gym/")
    if name in shipped:
        return shipped[name]
    nowhere = (
        f"world {str(path_or_id)!r} is neither a folder nor one of the shipped worlds {sorted(shipped)}; "
        "train one with `wm-gym train DATASET --out WORLD`"
    )
    if is_hub_id(path_or_id):
        return fetched(path_or_id, ["*.json", "*.yaml", "*.safetensors", "*.md"], nowhere)
    raise FileNotFoundError(nowhere)
