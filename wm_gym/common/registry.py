"""Which environments does Gymnasium know here, and which modules may be imported for one?

What a person types may be imported; what a file says never is.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

NAMESPACE = "wm_gym"
TYPED: list[str] = []
"""Modules that were imported because somebody typed their names."""


def env_ids() -> list[str]:
    """The registered ids of this package, sorted."""
    return sorted(i for i in gym.registry if i.startswith(f"{NAMESPACE}/"))


def find_spec(env_id: str) -> EnvSpec:
    """The EnvSpec of an id that somebody typed.

    Where it is not registered, the module that it names is imported (`panda_gym:PandaReach-v3`), or the one that its
    namespace is (`gym_pusht/PushT-v0`). What a file says goes to `registered` instead.

    Raises:
        gymnasium.error.UnregisteredEnv: Where there is none; it lists the ids that there are.
    """
    module, _, name = env_id.rpartition(":")
    for named in filter(None, (module, name.rpartition("/")[0])):
        if name not in gym.registry:
            try:
                import_typed(named)
            except ModuleNotFoundError as error:
                if error.name != named:
                    raise
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        raise gym.error.UnregisteredEnv(
            f"no environment {name!r} is registered; wm_gym has {env_ids()}. A world of your own is made by "
            f"gym.make('wm_gym/World-v0', world='FOLDER'); an id of another package needs that package imported "
            f"first, as in 'package:{name}'"
        ) from error


def registered(env_id: Any, origin: str) -> EnvSpec:
    """The EnvSpec of an id that a file gave. Nothing is ever imported for it: a file must not choose what code runs.

    Args:
        env_id: The id.
        origin: Which file and key, for the error.

    Raises:
        ValueError: Where it is not registered already; it says what to type.
    """
    if not isinstance(env_id, str):
        raise ValueError(f"{origin} is {env_id!r}, expected the id of an environment, e.g. wm_gym/PushPyBullet-v0")
    module, _, name = env_id.rpartition(":")
    spec = gym.registry.get(name)
    if spec is None:
        module = module or name.rpartition("/")[0]
        module = module if all(part.isidentifier() for part in module.split(".")) else "MODULE"
        raise ValueError(
            f"{origin} is {env_id!r}, which is not registered, and what a file says is never imported. If "
            f"you trust the module that registers it: `import {module}` in Python, or `--import {module}` "
            "on the command line"
        )
    return spec


def import_typed(module: str) -> None:
    """Import a module that somebody typed; worker processes do, too (`carried`)."""
    importlib.import_module(module)
    if module not in TYPED:
        TYPED.append(module)


def carried() -> tuple[list[str], list[bytes]]:
    """What a worker process needs to know the ids that are known here: modules, and pickled EnvSpecs."""
    specs = []
    for spec in gym.registry.values():
        if isinstance(spec.entry_point, str) and not spec.id.startswith(f"{NAMESPACE}/"):
            with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):  # of its keyword arguments
                specs.append(pickle.dumps(spec))
    return list(TYPED), specs


def adopt(modules: list[str], specs: list[bytes]) -> None:
    """Register in a worker process what `carried` gave."""
    for module in modules:
        with contextlib.suppress(ImportError):  # asking for its ids says that they are not registered
            import_typed(module)
    for spec in map(pickle.loads, specs):
        gym.registry.setdefault(spec.id, spec)
