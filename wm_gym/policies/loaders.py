"""Which kinds of agent are there, and how is each loaded? Ours, planners, lerobot's, a callable, a trusted zip."""

from __future__ import annotations

from pathlib import Path

from wm_gym.common.files import unchanged
from wm_gym.policies.agent import TENSORS_FILE, Agent
from wm_gym.policies.callable import load_callable
from wm_gym.policies.catalogue import find_agent
from wm_gym.policies.config import CONFIG_FILE, PLANNER, read_config
from wm_gym.policies.folder import read_agent
from wm_gym.policies.lerobot import is_lerobot, load_lerobot
from wm_gym.policies.planner import load_planner

PICKLES = (".zip", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")


def load_agent(source: str | Path | Agent, device: str = "cpu", allow_pickle: bool = False) -> Agent:
    """The agent that is somewhere.

    Args:
        source: A folder, which may also be a policy that lerobot saved; the name of a shipped agent (`ppo-Reach-v0`); a
            Hub id (`user/repository`); or `module:name` of a class, object or function with `predict(observation)`,
            whose module is imported (see `wm_gym.policies.callable`). An Agent is returned as it is.
        device: Where its policy computes: "cpu", "cuda" or "auto".
        allow_pickle: Load a Stable-Baselines3 zip too: a pickle runs the code of whoever wrote it.

    Raises:
        FileNotFoundError: Where there is none.
        ValueError: For a damaged one, and for a zip or another pickle without allow_pickle=True.
    """
    if isinstance(source, Agent):
        return source
    if ":" in str(source) and not Path(source).exists():
        return load_callable(str(source))
    folder = find_agent(source)
    if folder.is_file():
        return _load_pickle(folder, device, allow_pickle)
    return unchanged(folder, lambda folder: _load_folder(folder, device, allow_pickle))


def _load_folder(folder: Path, device: str, allow_pickle: bool) -> Agent:
    config = read_config(folder)
    if config is None and is_lerobot(folder):
        return load_lerobot(folder, device)
    if config and config.get("algo") == PLANNER:
        return load_planner(folder, config, device)
    if config is None or not (folder / TENSORS_FILE).is_file():
        pickles = sorted(p for p in folder.iterdir() if p.suffix in PICKLES)
        if pickles:
            return _load_pickle(pickles[0], device, allow_pickle)
        raise FileNotFoundError(
            f"{folder} is no agent: it lacks {CONFIG_FILE} or {TENSORS_FILE}; "
            "train one with `wm-gym agent train ppo --env wm_gym/Reach-v0 --out DIR`"
        )
    return read_agent(folder, config, device)


def _load_pickle(path: Path, device: str, allow_pickle: bool) -> Agent:
    """Stable-Baselines3's zip, only for those who trust it."""
    is_zip = path.suffix == ".zip"
    if not is_zip or not allow_pickle:
        instead = (
            "if you trust this Stable-Baselines3 zip: --trust, or load_agent(..., allow_pickle=True)"
            if is_zip
            else "a policy of your own is evaluated as module:name of a class with predict(observation)"
        )
        raise ValueError(
            f"{path} holds a pickle, which runs the code of whoever wrote it, so it is not loaded. An agent folder has "
            f"{CONFIG_FILE} and {TENSORS_FILE}; {instead}"
        )
    from stable_baselines3.common.save_util import load_from_zip_file

    data, parameters, _ = load_from_zip_file(path, device=device)
    assert data is not None  # as load_data=True
    policy = data["policy_class"](
        data["observation_space"], data["action_space"], lambda _: 0.0, **data["policy_kwargs"]
    )
    policy.load_state_dict(parameters["policy"])
    policy.to(device)
    policy.set_training_mode(False)
    return Agent(policy, {"algo": path.stem.split("-")[0], "env_id": None}, path)
