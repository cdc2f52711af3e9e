"""How does an episode begin? From the bank of starts, from pictures, or from a saved world state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_gym.common import accepted
from wm_gym.data.resize import resized
from wm_gym.worlds.starts import bank_place

if TYPE_CHECKING:
    from wm_gym.worlds.world import World

OPTIONS = {"image", "observation", "actions", "proprioception", "episode", "t", "world_state"}
ACCEPTED = "{'image': …}, {'observation': …}, {'episode': i, 't': k} or {'world_state': env.get_state()}"
RENAMED = {"doubt": "error_distribution"}
"""Keys of states that were saved before 0.2 -> what they are called now."""
SAVED = "the dict that env.get_state() gave"


def check_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """One slot's reset options; ValueError for unknown keys and for two ways to begin at once."""
    options = accepted.options("reset options", options)
    if unknown := sorted(set(options) - OPTIONS, key=str):
        twin = "; a physics_state belongs to the twin's reset" if "physics_state" in unknown else ""
        raise ValueError(f"reset options {unknown} are unknown, a world takes {ACCEPTED}{twin}")
    ways = [key for key in ("image", "episode", "world_state") if key in options]
    if len(ways) > 1:
        raise ValueError(f"reset options {ways} are different ways to begin an episode; give one of {ACCEPTED}")
    if "observation" in options and len(options.keys() - {"observation", "image"}):
        raise ValueError(f"reset option 'observation' goes with 'image' alone, not with {sorted(options)}")
    for key, needs in (("actions", "image"), ("proprioception", "image"), ("t", "episode")):
        if key in options and needs not in options:
            raise ValueError(f"reset option {key!r} needs {needs!r} beside it; give one of {ACCEPTED}")
    return options


def split_options(options: Mapping[str, Any] | None, num_envs: int) -> list[dict[str, Any]]:
    """A vector environment's options, every array with a leading batch axis, as one dict a slot.

    "episode" and "t" may also be one integer for all.

    Raises:
        ValueError: For a key with another number of rows.
    """
    slots: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for key, value in accepted.options("reset options", options).items():
        if key == "world_state":
            rows = split_state(value, num_envs)
        elif key in ("episode", "t") and not _has_rows(value):
            rows = [value] * num_envs
        else:
            rows = _rows(f"reset option {key!r}", value, num_envs)
        for slot, row in zip(slots, rows):
            slot[key] = row
    return slots


def split_state(state: Mapping[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """A batch's saved state, every array with a leading batch axis, as one dict a slot.

    Raises:
        ValueError: For a key with another number of rows.
    """
    state = accepted.mapping("world_state", state, SAVED)
    rows = {key: _rows(f"world_state[{key!r}]", value, num_envs) for key, value in state.items()}
    return [{key: values[i] for key, values in rows.items()} for i in range(num_envs)]


def _has_rows(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or np.ndim(value) > 0


def _rows(name: str, value: Any, num_envs: int) -> list[Any]:
    if not _has_rows(value) or len(value) != num_envs:
        found = f"has {len(value)} rows" if _has_rows(value) else f"is {accepted.shown(value)}"
        raise ValueError(f"{name} {found}, expected one for each of the {num_envs} environments (a leading batch axis)")
    return list(value)


def start_index(world: World, options: dict[str, Any], rows: np.ndarray, draw: int) -> int | None:
    """The row of the start bank that an episode begins at, None where the options bring a start of their own.

    Args:
        world: The world with the bank.
        options: The slot's reset options.
        rows: Rows to draw from where the options name none.
        draw: An integer >= 0; modulo the number of `rows` it chooses one.

    Raises:
        ValueError: Where the bank has no such start.
    """
    if {"image", "observation", "world_state"} & set(options):
        return None
    starts = world.starts
    if "episode" in options:
        return starts.index(*bank_place(options, starts))
    if not len(starts):
        raise ValueError("this world has no bank of starts; reset with options={'image': frame} (uint8 [H, W, 3])")
    return int(rows[draw % len(rows)])


def with_observation(world: World, options: dict[str, Any]) -> dict[str, Any]:
    """Reset options whose "observation", an element of the source's space, stands as "proprioception" and "image".

    Raises:
        ValueError: Where it is not of that space, or nobody said which that is.
    """
    if "observation" not in options:
        return options
    codec = world.spec.codec("observation")
    if codec is None:
        raise ValueError(f"the world {world.spec.name!r} does not know its source's spaces; give {ACCEPTED}")
    observation = options["observation"]
    if not codec.space.contains(observation):
        raise ValueError(f"reset option 'observation' is {accepted.shown(observation)}, expected one of {codec.space}")
    made = {"proprioception": codec.numbers(observation)} if codec.size else {}
    frame = codec.frame(observation)
    if frame is not None and "image" not in options:
        made["image"] = resized(frame, world.spec.frame_size)
    return {key: value for key, value in options.items() if key != "observation"} | made


def clip_of_options(world: World, options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """The given pictures as a clip uint8 [1, T, H, W, 3] and their proprioception float32 [1, T, P] or None.

    Raises:
        ValueError: Where a shape or dtype is not the world's.
    """
    size = tuple(world.spec.frame_size)
    frames = accepted.real("reset option 'image'", options["image"], f"uint8 {[*size, 3]}")
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or frames.shape[-3:] != (*size, 3) or not len(frames):
        raise ValueError(
            f"reset option 'image' is {frames.dtype} {list(frames.shape)}, expected uint8 "
            f"{[*size, 3]} or [T, {size[0]}, {size[1]}, 3] RGB; resize a picture with "
            f"PIL.Image.fromarray(picture).resize(({size[1]}, {size[0]}), PIL.Image.BOX)"
        )
    frames = np.array(frames.reshape(-1, *size, 3))
    steps, size_a, size_p = len(frames), world.spec.action_dim, world.spec.proprioception_dim
    if "actions" in options:
        _vectors(options["actions"], (steps - 1, size_a), "actions", "one action between two pictures")
    pose = options.get("proprioception")
    if pose is None:
        return frames[None], None
    pose = accepted.real("reset option 'proprioception'", pose)
    if pose.ndim == 1:  # of the last picture
        pose = np.broadcast_to(pose, (steps, len(pose)))
    pose = _vectors(pose, (steps, size_p), "proprioception", f"{world.spec.proprioception_names} a picture")
    return frames[None], pose[None]


def state_of_options(
    state: Mapping[str, Any], like: Mapping[str, tuple[int, ...]], frame_size: tuple[int, int]
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The arrays of a saved world state that the model reads, and its frame where it has one.

    Args:
        state: What `get_state` gave.
        like: The names of the arrays and the shape of each.
        frame_size: Height and width of a frame.

    Raises:
        ValueError: Where a key is missing, not finite, or has another world's shape.
    """
    state = {RENAMED.get(key, key): value for key, value in state.items()}
    if missing := sorted(set(like) - set(state)):
        raise ValueError(
            f"world_state lacks {missing}; it has {sorted(state, key=str)}; pass what env.get_state() gave"
        )
    expected = "finite real numbers {} (a state fits only the world it was saved from)"
    arrays = {
        key: accepted.numbers(f"world_state[{key!r}]", state[key], shape, np.float32, expected.format(list(shape)))
        for key, shape in like.items()
    }
    if "frame" not in state:
        return arrays, None
    return arrays, accepted.frame("world_state['frame']", state["frame"], (*frame_size, 3))


def _vectors(values: Any, shape: tuple[int, ...], name: str, meaning: str) -> np.ndarray:
    return accepted.numbers(
        f"reset option {name!r}", values, shape, np.float32, f"finite float32 {list(shape)} ({meaning})"
    )
