"""Where do compiled steps lie between processes? In the user's cache, owner-only, found by what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable

from wm_gym.data.cache import default_cache

DIGEST = hashlib.sha256().digest_size


def artefact(made_from: dict, build: Callable[[], bytes]) -> bytes:
    """The bytes that `build` gives, kept for everything in `made_from` (plain values); built anew where the kept ones
    are damaged. Two processes may build at once: each writes beside and renames."""
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    path = default_cache() / "engines" / f"{made_from['backend']}-{key[:32]}"
    try:
        kept = path.read_bytes()
        if hashlib.sha256(kept[DIGEST:]).digest() == kept[:DIGEST]:
            return kept[DIGEST:]
    except OSError:
        pass
    data = build()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # readable by its owner only
    with os.fdopen(handle, "wb") as file:
        file.write(hashlib.sha256(data).digest() + data)
    os.replace(beside, path)
    return data


def digest_of(module) -> str:
    """Hash of a diffusers model's configuration, weights and buffers."""
    digest = hashlib.sha256(repr(sorted(module.config.items())).encode())
    for name, value in module.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
