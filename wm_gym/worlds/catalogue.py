"""Where is a world? In the catalogue that is shipped, in a folder, or on the Hub."""

from __future__ import annotations

from pathlib import Path

from wm_gym.common.files import recover
from wm_gym.worlds.spec import SPEC_FILE


def catalogue_folders() -> dict[str, Path]:
    """Name -> folder of every shipped world: `wm_gym/envs` (a wheel), then `envs` beside the package (a checkout)."""
    package = Path(__file__).resolve().parents[1]
    roots = [package / "envs"]
    if (package.parent / "setup.py").is_file():  # else `envs` beside us is some other distribution's
        roots.append(package.parent / "envs")
    folders: dict[str, Path] = {}
    for root in roots:
        for spec_file in sorted(root.glob(f"*/{SPEC_FILE}")):
            folders.setdefault(spec_file.parent.name, spec_file.parent)
    return folders


def find_world(path_or_id: str | Path) -> Path:
    """The folder of a world: a path, a catalogue name, or a Hub id (downloaded, safetensors only)."""
    folder = recover(path_or_id)
    if folder.is_dir():
        return folder
    shipped = catalogue_folders()
    name = str(path_or_id).removeprefix("wm_gym/")
    if name in shipped:
        return shipped[name]
    text = str(path_or_id)
    if text.count("/") == 1 and not text.startswith((".", "~", "/")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(text, allow_patterns=["*.json", "*.yaml", "*.safetensors", "*.md"]))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            raise FileNotFoundError(
                f"world {text!r} is neither a folder, nor shipped ({sorted(shipped)}), and the "
                f"Hub did not give it: {error}"
            ) from error
    raise FileNotFoundError(
        f"world {text!r} is neither a folder nor one of the shipped worlds {sorted(shipped)}; "
        "train one with `wm-gym train DATASET --out WORLD`"
    )
