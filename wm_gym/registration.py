"""Which environment ids are there? Walks the catalogue of worlds and the table of twins; imports no torch."""

import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from wm_gym.common.registry import NAMESPACE, registered
from wm_gym.worlds.catalogue import catalogue_folders
from wm_gym.worlds.spec import WorldSpec

ENV_ENTRY_POINT = "wm_gym.env:WorldEnv"
VECTOR_ENTRY_POINT = "wm_gym.vector:WorldVectorEnv"
TWIN_ENTRY_POINT = "wm_gym.physics.twin:PandaTwin"


def register_envs() -> None:
    """Register `wm_gym/<Name>` for every world of the catalogue, `wm_gym/World-v0` and the physics twins.

    A world whose `spec.yaml` cannot be read is left out with a warning that names it. Calling again adds what is new.
    """
    _register(f"{NAMESPACE}/World-v0", ENV_ENTRY_POINT, VECTOR_ENTRY_POINT)
    for name, folder in catalogue_folders().items():
        try:
            horizon = WorldSpec.load(folder).horizon
            # the id, not the folder: an EnvSpec written to JSON here must work on another machine
            _register(
                f"{NAMESPACE}/{name}",
                ENV_ENTRY_POINT,
                VECTOR_ENTRY_POINT,
                max_episode_steps=horizon,
                kwargs={"world": f"{NAMESPACE}/{name}"},
            )
        except (ValueError, TypeError, OSError, gym.error.Error) as error:
            warnings.warn(f"the world in {folder} is not registered: {error}", stacklevel=3)
    from wm_gym.physics import TASKS

    for name, task in TASKS.items():
        _register(task.env_id, TWIN_ENTRY_POINT, max_episode_steps=task.max_episode_steps, kwargs={"task": name})


def _register(env_id: str, entry_point: str, vector_entry_point: str | None = None, **registration: Any) -> None:
    if env_id not in gym.registry:
        gym.register(env_id, entry_point=entry_point, vector_entry_point=vector_entry_point, **registration)


def is_twin(env_id: str | None) -> bool:
    """Whether an id is a physics twin of this package: its physics state can be read and set."""
    spec = gym.registry.get(env_id.rpartition(":")[2]) if isinstance(env_id, str) else None
    return spec is not None and spec.entry_point == TWIN_ENTRY_POINT


def registered_source(spec: WorldSpec) -> str | None:
    """The environment that a world was learned from, where it is registered; else None. Nothing is imported."""
    name = (spec.twin or "").rpartition(":")[2]
    return name if name in gym.registry else None


def recorded_twin(meta: Mapping[str, Any]) -> gym.Env:
    """The physics twin that a recording was made in (`ClipData.meta`); ValueError where it cannot be made."""
    origin, kwargs = f"{meta['dataset']}: wm_gym", meta["env_kwargs"]
    spec = registered(meta["env_id"], f"{origin}.env_id")
    try:
        return gym.make(spec, **{**kwargs, "render_mode": "rgb_array"})
    except TypeError as error:
        raise ValueError(
            f"{origin}.env_kwargs is {kwargs!r}, which {spec.id} does not take ({error}); record it anew"
        ) from error


def is_learned(spec: EnvSpec) -> bool:
    """True where an EnvSpec makes a learned world (not a twin, not another package's environment)."""
    return spec.entry_point == ENV_ENTRY_POINT
