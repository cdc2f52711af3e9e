"""Which environment ids are there? Walks the catalogue of worlds and the table of twins; imports no torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import gymnasium as gym

from wm_gym.spec import SPEC_FILE, WorldSpec

NAMESPACE = "wm_gym"
ENV_ENTRY_POINT = "wm_gym.env:WorldEnv"
VECTOR_ENTRY_POINT = "wm_gym.vector:WorldVectorEnv"
TWIN_ENTRY_POINT = "wm_gym.physics.twin:PandaTwin"


def catalogue_folders() -> dict[str, Path]:
    """Name -> folder of every shipped world: `wm_gym/envs` (a wheel), then `envs` beside the package (a checkout)."""
    package = Path(__file__).resolve().parent
    roots = [package / "envs"]
    if (package.parent / "setup.py").is_file():  # else `envs` beside us is some other distribution's
        roots.append(package.parent / "envs")
    folders: dict[str, Path] = {}
    for root in roots:
        for spec_file in sorted(root.glob(f"*/{SPEC_FILE}")):
            folders.setdefault(spec_file.parent.name, spec_file.parent)
    return folders


def register_envs() -> None:
    """Register `wm_gym/<Name>` for every world of the catalogue, `wm_gym/World-v0` and the physics twins.

    A world whose `spec.yaml` cannot be read is left out with a warning that names it. Calling again adds what is new.
    """
    _register(f"{NAMESPACE}/World-v0", ENV_ENTRY_POINT, VECTOR_ENTRY_POINT)
    for name, folder in catalogue_folders().items():
        try:
            horizon = WorldSpec.load(folder).horizon
            # the id, not the folder: an EnvSpec written to JSON here must work on another machine
            _register(f"{NAMESPACE}/{name}", ENV_ENTRY_POINT, VECTOR_ENTRY_POINT, max_episode_steps=horizon,
                      kwargs={"world": f"{NAMESPACE}/{name}"})
        except (ValueError, TypeError, OSError, gym.error.Error) as error:
            warnings.warn(f"the world in {folder} is not registered: {error}", stacklevel=3)
    from wm_gym.physics import TASKS

    for task in TASKS.values():
        _register(task.env_id, TWIN_ENTRY_POINT, max_episode_steps=task.max_episode_steps, kwargs=dict(task.kwargs))


def _register(env_id: str, entry_point: str, vector_entry_point: str | None = None, **registration) -> None:
    if env_id not in gym.registry:
        gym.register(env_id, entry_point=entry_point, vector_entry_point=vector_entry_point, **registration)


def env_ids() -> list[str]:
    """The registered ids of this package, sorted."""
    return sorted(i for i in gym.registry if i.startswith(f"{NAMESPACE}/"))


def find_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """The EnvSpec of an id (`module:namespace/Name-v0` imports the module first).

    Raises gymnasium.error.UnregisteredEnv that lists the ids there are.
    """
    if ":" in env_id:
        from importlib import import_module

        module, env_id = env_id.split(":", 1)
        import_module(module)
    try:
        return gym.spec(env_id)
    except gym.error.Error as error:
        raise gym.error.UnregisteredEnv(
            f"no environment {env_id!r} is registered; wm_gym has {env_ids()}. A world of your own is made by "
            f"gym.make('wm_gym/World-v0', world='FOLDER'); an id of another package needs that package imported "
            f"first, as in 'package:{env_id}'") from error


def is_twin(env_id: str | None) -> bool:
    """Whether an id is a physics twin of this package: one that starts where it is told and gives its state away."""
    spec = gym.registry.get((env_id or "").split(":")[-1])
    return spec is not None and spec.entry_point == TWIN_ENTRY_POINT


def physics_twin(spec: WorldSpec) -> str | None:
    """The physics twin that a world names; None where it names none, or the environment it was recorded in."""
    return spec.twin if is_twin(spec.twin) else None


def is_learned(spec: gym.envs.registration.EnvSpec) -> bool:
    """True where an EnvSpec makes a learned world (not a twin, not another package's environment)."""
    return spec.entry_point == ENV_ENTRY_POINT
