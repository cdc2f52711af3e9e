"""How does a world or an agent get to the Hugging Face Hub? Its folder, its card and LeRobot's EnvHub entry point."""

import re
import shutil
import tempfile
from pathlib import Path

from wm_gym.common.files import atomic_folder

KINDS = (".json", ".yaml", ".yml", ".safetensors", ".md", ".gif", ".png")
"""What is uploaded: weights without code in them, settings, the card and its pictures."""

ENV_PY = '''"""LeRobot's EnvHub: lerobot.envs.factory.make_env(REPO, n_envs=4, trust_remote_code=True). Needs wm-gym."""

from pathlib import Path

import gymnasium as gym
import wm_gym  # noqa: F401, registers wm_gym/World-v0

REPO = {repo!a}
HERE = Path(__file__).resolve().parent


def make_env(n_envs: int = 1, use_async_envs: bool = False) -> gym.vector.VectorEnv:
    """Step n_envs copies of the learned world as one batch; it is batched by itself, so never in processes."""
    world = HERE if (HERE / "spec.yaml").is_file() else REPO
    return gym.make_vec("wm_gym/World-v0", num_envs=n_envs, world=str(world))
'''
"""Its one value is filled in as a literal: a name is never code."""


def push(folder: str | Path, to: str, private: bool = False) -> str:
    """Upload a world's or an agent's folder to the Hub, or copy it to a local folder.

    Worlds get an env.py for LeRobot's EnvHub. Nothing but the `KINDS` of files goes along. A folder with a pickle in it
    is refused, since its users would have to trust it, and one with a symbolic link, which may lead to what is not
    meant to be published.

    Args:
        folder: The folder, or the name of a shipped world or agent.
        to: A repository "user/repo"; or a folder that begins with "." or "/", which must be new or empty and is there
            whole or not at all.
        private: Make a new repository private.

    Returns:
        Where it is now.

    Raises:
        FileNotFoundError: Where there is no such world or agent.
        ValueError: Where it cannot be published, or `to` is neither.
    """
    folder = _find(folder)
    paths = sorted(folder.rglob("*"))
    if links := [path for path in (folder, *paths) if path.is_symlink()]:
        raise ValueError(
            f"{links[0]} is a symbolic link, and links are not followed: what they lead to may not be "
            "meant to be published; push a copy that holds the files themselves (cp -rL)"
        )
    files = [path for path in paths if path.is_file()]
    if pickles := [path for path in files if path.suffix in (".pkl", ".pt", ".pth", ".bin", ".zip")]:
        raise ValueError(f"{pickles[0]} can hold code; expected {', '.join(KINDS)}: save weights as safetensors")
    card = folder / "README.md"
    if not card.is_file() or not card.read_text(encoding="utf-8").startswith("---"):
        raise ValueError(
            f"{folder} has no card (README.md that begins with ---); write one: what it was trained on, "
            "what was measured, where it fails"
        )
    name = folder.resolve().name
    if to.startswith((".", "/")):
        if Path(to).exists() and (not Path(to).is_dir() or any(Path(to).iterdir())):
            raise ValueError(f"{to} is not empty; give a new folder")
        with atomic_folder(to) as beside:
            _fill(beside, folder, files, name)
        return to
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", to, re.ASCII):
        raise ValueError(f"--to {to} is neither user/repo nor a folder that begins with . or /")
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as made:
        _fill(Path(made), folder, files, to)
        api = HfApi()
        api.create_repo(to, repo_type="model", private=private, exist_ok=True)
        return str(
            api.upload_folder(
                repo_id=to, repo_type="model", folder_path=made, commit_message=f"Upload {name} with wm-gym"
            )
        )


def _fill(made: Path, folder: Path, files: list[Path], repo: str) -> None:
    """Copy what goes along, and write a world's entry point."""
    for path in files:
        if path.suffix in KINDS:
            target = made / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    if (folder / "spec.yaml").is_file():
        (made / "env.py").write_text(ENV_PY.format(repo=repo), encoding="utf-8")


def _find(folder: str | Path) -> Path:
    """A world's or an agent's folder, or that of a shipped one by its name."""
    from wm_gym.policies.catalogue import catalogue
    from wm_gym.worlds.catalogue import catalogue_folders

    name = Path(folder).name
    for path in (Path(folder), catalogue_folders().get(name), catalogue().get(name)):
        if path is not None and ((path / "spec.yaml").is_file() or (path / "config.yml").is_file()):
            return path
    raise FileNotFoundError(
        f"{folder} is neither a world's folder (spec.yaml) nor an agent's (config.yml), nor the name of a shipped one"
    )
