"""Which spaces do the learned worlds and their physics twins share?"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from wm_gym.common import accepted
from wm_gym.common.codec import SpaceCodec, map_leaves, one_of_batch

OBSERVATIONS = ("auto", "source", "pixels", "pixels+state", "latent")

UNBOUNDED = float(np.finfo(np.float32).max)
"""Stands for infinity: both checkers warn about infinite bounds."""


def pixels_space(height: int, width: int) -> spaces.Box:
    """uint8 [H, W, 3] in 0..255."""
    return spaces.Box(0, 255, (height, width, 3), np.uint8)


def vector_space(size: int) -> spaces.Box:
    """float32 [size] without bounds (proprioception, a flattened latent)."""
    return spaces.Box(-UNBOUNDED, UNBOUNDED, (size,), np.float32)


def pixels_and_state_space(height: int, width: int, proprioception_dim: int) -> spaces.Dict:
    """{"agent_pos": float32 [P], "pixels": uint8 [H, W, 3]}."""
    return spaces.Dict({"agent_pos": vector_space(proprioception_dim), "pixels": pixels_space(height, width)})


def action_space(low: ArrayLike, high: ArrayLike) -> spaces.Box:
    """float32 [A] between two vectors."""
    return spaces.Box(np.asarray(low, np.float32), np.asarray(high, np.float32), dtype=np.float32)


def check_action(action: Any, space: spaces.Box) -> np.ndarray:
    """One environment's action as float32 [A]; like `check_actions`."""
    return check_actions(accepted.real("action", action, f"float32 {list(space.shape)}")[None], space, 1)[0]


def check_actions(
    actions: Any, space: spaces.Box, num_envs: int, active: np.ndarray | None = None, row: str = "environment"
) -> np.ndarray:
    """Actions as float32 [B, A], clipped to the box by no more than a tolerance of 1e-6.

    Args:
        actions: Anything that is real numbers [B, A].
        space: The box of one action.
        num_envs: B.
        active: Bool [B]; the other rows are not looked at and come back as zeros.
        row: The word for a row in errors.

    Raises:
        ValueError: For another shape or a number outside the box; it names them.
    """
    shape = (num_envs, *space.shape)
    array = accepted.real("action", actions, f"float32 {list(shape)}")
    if array.shape != shape:
        wanted = shape[1:] if num_envs == 1 else shape
        found = array.shape[1:] if num_envs == 1 and array.shape[:1] == (1,) else array.shape
        raise ValueError(f"action has shape {list(found)}, expected {list(wanted)}")
    array = accepted.single(array)
    if active is not None:
        array[~active] = 0
    tolerance = 1e-6 * np.maximum(1.0, np.maximum(np.abs(space.low), np.abs(space.high)))
    inside = (array >= space.low - tolerance) & (array <= space.high + tolerance)  # a NaN is in no box
    if active is not None:
        inside[~active] = True
    if not inside.all():
        slot, axis = np.argwhere(~inside)[0].tolist()
        where = f"index {axis}" + (f" of {row} {slot}" if num_envs > 1 else "")
        raise ValueError(
            f"action is {array[slot, axis]:.7g} at {where}, expected a number in [{space.low[axis]}, "
            f"{space.high[axis]}]; clip it: np.clip(action, action_space.low, action_space.high)"
        )
    return np.clip(array, space.low, space.high)


def discrete_numbers(actions: Any, codec: SpaceCodec, active: np.ndarray, row: str = "environment") -> np.ndarray:
    """The numbers float32 [n, A] of a batch of actions of a space that is not a box of real numbers.

    Args:
        actions: As `gymnasium.vector` batches them.
        codec: Of one action.
        active: Bool [n]; the others are not looked at and come back as zeros.
        row: The word for one of them in errors.

    Raises:
        ValueError: For one that is not in the space; it names the action and the space.
    """
    count = len(active)
    try:
        arrays = map_leaves(actions, lambda leaf: np.asarray(leaf.detach().cpu() if hasattr(leaf, "detach") else leaf))
        rows = [one_of_batch(arrays, i) for i in range(count)]
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"action is {accepted.shown(actions)}, expected a batch of {count} of {codec.space} ({error})"
        ) from None
    numbers, taken = np.zeros((count, codec.size), np.float32), np.flatnonzero(active)
    for i in taken.tolist():
        if not codec.space.contains(rows[i]):
            where = f" of {row} {i}" if count > 1 else ""
            raise ValueError(f"action{where} is {accepted.shown(rows[i])}, expected one of {codec.space}")
    numbers[taken] = codec.batch_numbers(map_leaves(arrays, lambda leaf: leaf[taken]), len(taken))
    return numbers
