"""What does `import wm_gym` do? It registers the environments with Gymnasium, and nothing that costs time."""

from wm_gym.registration import register_envs

__version__ = "0.1.0"
__all__ = ["World", "make_engine", "register_envs"]

_LAZY = {"World": "wm_gym.worlds.world", "make_engine": "wm_gym.engine"}


def __getattr__(name: str):
    """Load what needs torch only when it is asked for (`wm_gym.World`, `wm_gym.make_engine`)."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'wm_gym' has no attribute {name!r}")


register_envs()
