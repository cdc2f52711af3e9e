"""What does `import wm_gym` do? It registers the environments with Gymnasium, and nothing that costs time."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wm_gym.registration import register_envs

if TYPE_CHECKING:
    from wm_gym.collect.record import record
    from wm_gym.data.formats.registry import open_reader
    from wm_gym.engine import make_engine
    from wm_gym.options import EnvOptions
    from wm_gym.policies.loaders import load_agent
    from wm_gym.rl.train import train_agent
    from wm_gym.sb3 import make_sb3_env
    from wm_gym.training.trainer import train
    from wm_gym.worlds.world import World

__version__ = "0.1.0"
__all__ = [
    "EnvOptions",
    "World",
    "load_agent",
    "make_engine",
    "make_sb3_env",
    "open_reader",
    "record",
    "register_envs",
    "train",
    "train_agent",
]

_HOME = {
    "EnvOptions": "options",
    "World": "worlds.world",
    "load_agent": "policies.loaders",
    "make_engine": "engine",
    "make_sb3_env": "sb3",
    "open_reader": "data.formats.registry",
    "record": "collect.record",
    "train": "training.trainer",
    "train_agent": "rl.train",
}


def __getattr__(name: str) -> Any:
    """What is loaded only when it is asked for, since much of it needs torch."""
    if name in _HOME:
        return getattr(import_module(f"wm_gym.{_HOME[name]}"), name)
    raise AttributeError(f"module 'wm_gym' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_envs()
