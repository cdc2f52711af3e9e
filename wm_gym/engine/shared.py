"""Which worlds and engines does this process already hold? Loading is paid once, however many environments are made."""

import os
import threading
from pathlib import Path
from typing import Any

import torch

from wm_gym.engine import make_engine
from wm_gym.engine.base import Engine
from wm_gym.engine.state import StateEngine
from wm_gym.worlds.catalogue import catalogue_folders, find_world
from wm_gym.worlds.world import World, world_files

_WORLDS: dict[Path, tuple[tuple, World]] = {}
_LOADING = threading.RLock()  # two threads that make the same environment load its world and engine once


def load_world(world: World | str | Path | None) -> World:
    """The World of a folder, catalogue name or Hub id; read again only when a file of the folder has changed.

    Raises:
        FileNotFoundError: For what is not found.
        ValueError: For None; it names the worlds that there are.
    """
    if isinstance(world, World):
        return world
    if world is None:
        raise ValueError(
            f"which world? Pass world= a folder, a Hub id or one of {sorted(catalogue_folders())}, as in "
            "gym.make('wm_gym/World-v0', world='FOLDER'); train one with "
            "`wm-gym train DATASET --out FOLDER`"
        )
    folder = find_world(world).resolve()
    stamp = folder.stat().st_ino, *map(_stamp, world_files(folder))
    with _LOADING:
        if _WORLDS.get(folder, (None,))[0] != stamp:
            _WORLDS[folder] = stamp, World.from_pretrained(folder)
        return _WORLDS[folder][1]


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does; () for none, or for a link to nowhere."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def load_engine(world: World, backend: str, device: str, decode: bool, precision: str = "auto") -> Engine:
    """The engine of a World, made once for its arguments; engines keep no state, so environments share them.

    The back-end "state" is `StateEngine`, the others those of `make_engine`.
    """
    key = backend, device, decode, precision
    with _LOADING:
        if key not in world.engines:
            world.engines[key] = StateEngine(world) if backend == StateEngine.name else make_engine(world, *key)
        return world.engines[key]


def encoded_starts(engine: Engine) -> dict[int, Any]:
    """Row of the world's start bank -> (world state, frame), as far as they have been encoded in this process."""
    with _LOADING:
        bank, encoded = engine.encoded
        if bank is not engine.world.starts:
            engine.encoded = engine.world.starts, (encoded := {})
        return encoded


_STARTED: set[str] = set()  # back-ends that have run in this process
_LOST: set[str] = set()  # back-ends that ran in the process this one was forked from


def start_engine(engine: Engine) -> None:
    """Note that an engine runs here; RuntimeError where its threads were left behind by a fork (it would hang)."""
    if engine.name == "openvino" and engine.name in _LOST:
        raise RuntimeError(
            "OpenVINO ran in the process that this one was forked from, and its threads did not come along: make the "
            "batch with gym.make_vec(id, n) (one process, one call of the engine), or start the processes with "
            "context='spawn', or use backend='torch'"
        )
    _STARTED.add(engine.name)


def _after_fork() -> None:
    global _LOADING
    _LOADING = threading.RLock()  # its holder may have been left behind
    torch.set_num_threads(1)  # OpenMP's threads did not come along; a second one would be waited for for ever
    _LOST.update(_STARTED)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
