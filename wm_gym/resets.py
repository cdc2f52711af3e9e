"""How does an episode begin? From the bank of starts, from pictures, or from a saved world state."""

from __future__ import annotations

import numpy as np

from wm_gym.world import World

OPTIONS = {"image", "actions", "proprioception", "episode", "t", "world_state"}
WAYS = "{'image': …}, {'episode': i, 't': k} or {'world_state': env.get_state()}"


def check_options(options: dict | None) -> dict:
    """One slot's reset options; raises ValueError for unknown keys and for two ways to begin at once."""
    options = dict(options or {})
    if unknown := sorted(set(options) - OPTIONS, key=str):
        twin = "; a physics_state belongs to the twin's reset" if "physics_state" in unknown else ""
        raise ValueError(f"reset options {unknown} are unknown, a world takes {WAYS}{twin}")
    ways = [key for key in ("image", "episode", "world_state") if key in options]
    if len(ways) > 1:
        raise ValueError(f"reset options {ways} are different ways to begin an episode; give one of {WAYS}")
    for key, needs in (("actions", "image"), ("proprioception", "image"), ("t", "episode")):
        if key in options and needs not in options:
            raise ValueError(f"reset option {key!r} needs {needs!r} beside it; give one of {WAYS}")
    return options


def split_options(options: dict | None, num_envs: int) -> list[dict]:
    """A vector environment's options, every array with a leading batch axis, as one dict a slot.

    "episode" and "t" may also be one integer for all. Raises ValueError naming the key with the wrong length.
    """
    slots: list[dict] = [{} for _ in range(num_envs)]
    for key, value in (options or {}).items():
        if key == "world_state":
            rows = split_options(value, num_envs)
        elif key in ("episode", "t") and np.ndim(value) == 0:
            rows = [value] * num_envs
        else:
            if len(value) != num_envs:
                raise ValueError(f"reset option {key!r} has {len(value)} rows, expected one for each of the "
                                 f"{num_envs} environments (a leading batch axis)")
            rows = list(value)
        for slot, row in zip(slots, rows):
            slot[key] = row
    return slots


def start_index(world: World, options: dict, rows: np.ndarray, draw: int) -> int | None:
    """Row of the start bank that the options ask for (one of `rows` if not), None if they bring their own start.

    draw: any integer >= 0, taken modulo the number of `rows`.
    """
    if "image" in options or "world_state" in options:
        return None
    starts = world.starts
    if "episode" in options:
        episode = int(options["episode"])
        steps = starts.t[starts.episode == episode]
        return starts.index(episode, int(options.get("t", steps.min() if len(steps) else 0)))
    if not len(starts):
        raise ValueError("this world has no bank of starts; reset with options={'image': frame} "
                         "(uint8 [H, W, 3])")
    return int(rows[draw % len(rows)])


def clip_of_options(world: World, options: dict) -> tuple[np.ndarray, np.ndarray | None]:
    """The given pictures as a clip uint8 [1, T, H, W, 3] and their proprioception float32 [1, T, P] or None.

    Raises ValueError where a shape or dtype is not the world's.
    """
    size = tuple(world.spec.frame_size)
    frames = np.asarray(options["image"])
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or frames.shape[-3:] != (*size, 3) or not len(frames):
        raise ValueError(f"reset option 'image' is {frames.dtype} {list(frames.shape)}, expected uint8 "
                         f"{[*size, 3]} or [T, {size[0]}, {size[1]}, 3] RGB; resize a picture with "
                         f"PIL.Image.fromarray(picture).resize(({size[1]}, {size[0]}), PIL.Image.BOX)")
    frames = np.array(frames.reshape(-1, *size, 3))
    steps, size_a, size_p = len(frames), world.spec.action_dim, world.spec.proprioception_dim
    if "actions" in options:
        _vectors(options["actions"], (steps - 1, size_a), "actions", "one action between two pictures")
    pose = options.get("proprioception")
    if pose is None:
        return frames[None], None
    if np.ndim(pose) == 1:  # of the last picture
        pose = np.broadcast_to(pose, (steps, len(pose)))
    pose = _vectors(pose, (steps, size_p), "proprioception", f"{world.spec.proprioception_names} a picture")
    return frames[None], pose[None]


def state_of_options(options: dict, like: dict[str, tuple]) -> dict[str, np.ndarray]:
    """The saved world state's arrays that the model reads; `like` gives the shape of each.

    Raises ValueError where a key is missing or has another world's shape.
    """
    saved = options["world_state"]
    if not isinstance(saved, dict):
        raise ValueError(f"world_state is a {type(saved).__name__}, expected the dict that env.get_state() gave")
    if missing := sorted(set(like) - set(saved)):
        raise ValueError(f"world_state lacks {missing}; it has {sorted(saved)}; pass what env.get_state() gave")
    for key, shape in like.items():
        if np.shape(saved[key]) != shape:
            raise ValueError(f"world_state[{key!r}] has shape {list(np.shape(saved[key]))}, this world's is "
                             f"{list(shape)}; a state fits only the world it was saved from")
    return {key: np.array(saved[key], np.float32) for key in like}


def _vectors(values, shape: tuple[int, ...], name: str, meaning: str) -> np.ndarray:
    array = np.array(values, np.float32)
    if array.shape != shape or not np.isfinite(array).all():
        found = "holds NaN or infinity" if array.shape == shape else f"has shape {list(array.shape)}"
        raise ValueError(f"reset option {name!r} {found}, expected finite float32 {list(shape)} ({meaning})")
    return array
