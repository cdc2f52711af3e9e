"""Where do compiled steps lie between processes? In the user's cache, owner-only, found by what they were made from."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wm_gym.common.cache_folder import cache_folder, kept
from wm_gym.common.files import atomic_file
from wm_gym.models.saving import Network

DIGEST = hashlib.sha256().digest_size


def artefact(made_from: dict[str, Any], build: Callable[[], bytes]) -> bytes:
    """The bytes that `build` gives, kept for everything in `made_from` (plain values).

    They are built anew where the kept ones are damaged or cannot be kept. Two processes may build at once: each writes
    beside and renames.
    """
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    name = f"{made_from['backend']}-{key[:32]}"
    try:
        found = (cache_folder() / "engines" / name).read_bytes()
        if hashlib.sha256(found[DIGEST:]).digest() == found[:DIGEST]:
            return found[DIGEST:]
    except OSError:
        pass
    data = build()
    kept(lambda cache: _keep(cache / "engines" / name, data))
    return data


def _keep(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_file(path) as beside:
        beside.touch(0o600)  # readable by its owner only
        beside.write_bytes(hashlib.sha256(data).digest() + data)


def digest_of(module: Network) -> str:
    """The hash of a network's configuration, weights and buffers."""
    digest = hashlib.sha256(repr(sorted(module.config.items())).encode())
    for name, value in module.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
