"""Which worlds and engines does this process already hold? Loading is paid once, however many environments are made."""

from __future__ import annotations

from pathlib import Path

from wm_gym.engine import Engine, make_engine
from wm_gym.world import World, find_world

_WORLDS: dict[Path, tuple[int, World]] = {}


def load_world(world: World | str | Path) -> World:
    """The World of a folder, catalogue name or Hub id; read again only when a file of the folder has changed."""
    if isinstance(world, World):
        return world
    folder = find_world(world).resolve()
    stamp = max((p.stat().st_mtime_ns for p in folder.rglob("*")), default=0)
    if _WORLDS.get(folder, (None,))[0] != stamp:
        _WORLDS[folder] = stamp, World.from_pretrained(folder)
    return _WORLDS[folder][1]


def load_engine(world: World, backend: str, device: str, decode: bool) -> Engine:
    """The engine of a World, made once a back-end and device; engines keep no state, so environments share them."""
    engines = vars(world).setdefault("_engines", {})
    key = backend, device, decode
    if key not in engines:
        engines[key] = make_engine(world, backend, device, decode)
    return engines[key]
