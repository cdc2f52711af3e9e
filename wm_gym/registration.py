"""Which environment ids are there? Walks the catalogue of worlds and the table of twins; imports no torch."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from wm_gym.spec import SPEC_FILE, WorldSpec

NAMESPACE = "wm_gym"
ENV_ENTRY_POINT = "wm_gym.env:WorldEnv"
VECTOR_ENTRY_POINT = "wm_gym.vector:WorldVectorEnv"
TWIN_ENTRY_POINT = "wm_gym.physics.twin:PandaTwin"
TYPED: list[str] = []
"""Modules that were imported because somebody typed their names."""


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


def find_spec(env_id: str) -> EnvSpec:
    """The EnvSpec of an id that somebody typed; `module:namespace/Name-v0` imports the module if it is not registered.

    What a file says goes to `registered` instead. Raises gymnasium.error.UnregisteredEnv that lists the ids there are.
    """
    module, _, name = env_id.rpartition(":")
    if module and name not in gym.registry:
        import_typed(module)
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        raise gym.error.UnregisteredEnv(
            f"no environment {name!r} is registered; wm_gym has {env_ids()}. A world of your own is made by "
            f"gym.make('wm_gym/World-v0', world='FOLDER'); an id of another package needs that package imported "
            f"first, as in 'package:{name}'") from error


def registered(env_id: Any, origin: str) -> EnvSpec:
    """The EnvSpec of an id that a file gave. Nothing is ever imported for it: a file must not choose what code runs.

    origin: which file and key, for the ValueError where it is not registered already, which says what to type.
    """
    if not isinstance(env_id, str):
        raise ValueError(f"{origin} is {env_id!r}, expected the id of an environment, e.g. wm_gym/PushPyBullet-v0")
    module, _, name = env_id.rpartition(":")
    spec = gym.registry.get(name)
    if spec is None:
        module = module or name.rpartition("/")[0]
        module = module if all(part.isidentifier() for part in module.split(".")) else "MODULE"
        raise ValueError(f"{origin} is {env_id!r}, which is not registered, and what a file says is never imported. If "
                         f"you trust the module that registers it: `import {module}` in Python, or `--import {module}` "
                         "on the command line")
    return spec


def import_typed(module: str) -> None:
    """Import a module that somebody typed; worker processes do, too (`carried`)."""
    importlib.import_module(module)
    if module not in TYPED:
        TYPED.append(module)


def carried() -> tuple[list[str], list[bytes]]:
    """What a worker process is told so that it knows the ids that are known here: modules, and pickled EnvSpecs."""
    specs = []
    for spec in gym.registry.values():
        if isinstance(spec.entry_point, str) and not spec.id.startswith(f"{NAMESPACE}/"):
            with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):  # of its keyword arguments
                specs.append(pickle.dumps(spec))
    return list(TYPED), specs


def adopt(modules: list[str], specs: list[bytes]) -> None:
    """In a worker process: know what `carried` tells."""
    for module in modules:
        with contextlib.suppress(ImportError):  # whoever asks for its ids is told that they are not registered
            import_typed(module)
    for spec in map(pickle.loads, specs):
        gym.registry.setdefault(spec.id, spec)


def is_twin(env_id: str | None) -> bool:
    """Whether an id is a physics twin of this package: one that starts where it is told and gives its state away."""
    spec = gym.registry.get(env_id.rpartition(":")[2]) if isinstance(env_id, str) else None
    return spec is not None and spec.entry_point == TWIN_ENTRY_POINT


def physics_twin(spec: WorldSpec) -> str | None:
    """The physics twin that a world names; None where it names none, or the environment it was recorded in."""
    return registered(spec.twin, "twin").id if is_twin(spec.twin) else None


def recorded_twin(meta: dict[str, Any]) -> gym.Env:
    """The physics twin that a recording says it is of (`ClipData.meta`); ValueError where it cannot be made."""
    origin, kwargs = f"{meta['dataset']}: wm_gym", meta["env_kwargs"]
    spec = registered(meta["env_id"], f"{origin}.env_id")
    try:
        return gym.make(spec, **{**kwargs, "render_mode": "rgb_array"})
    except TypeError as error:
        raise ValueError(f"{origin}.env_kwargs is {kwargs!r}, which {spec.id} does not take ({error}); record it "
                         "anew") from error


def is_learned(spec: EnvSpec) -> bool:
    """True where an EnvSpec makes a learned world (not a twin, not another package's environment)."""
    return spec.entry_point == ENV_ENTRY_POINT
