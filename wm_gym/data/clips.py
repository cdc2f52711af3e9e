"""How does training get at the frames of a dataset fast? As a uint8 memory map, decoded once into a cache.

The cache folder is `wm_gym.common.cache_folder`'s; an entry is keyed by the dataset's content, the camera
and the size, so a changed dataset is decoded anew and an entry can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np

from wm_gym.common.cache_folder import kept_or_scratch, writable
from wm_gym.common.files import atomic_folder, reserve, write_json
from wm_gym.data.formats.lerobot_schema import CAMERA_PREFIX, DatasetError, read_json
from wm_gym.data.formats.reader import Reader, warn_left_out
from wm_gym.data.formats.registry import open_reader
from wm_gym.data.frames import Frames, JoinedFrames, SelectedFrames
from wm_gym.data.resize import resized

DAMAGED = "damaged.json"  # beside frames that were decoded as far as they can be: the episodes that cannot, and why


class ClipMeta(TypedDict):
    """What is known of a recording beside its rows."""

    fps: float
    action_names: list[str]
    action_low: list[float]
    action_high: list[float]
    action_bounds: Literal["stated", "data"]
    """Whether the dataset states the bounds, or they are its smallest and largest values."""
    action_unit: str
    """"" where nobody said, as `proprioception_unit`."""
    proprioception_names: list[str]
    proprioception_unit: str
    reward_terms: list[str]
    has_reward: bool
    has_success: bool
    success_ends: bool
    """Whether success is where the environment's task ends, though the recording may go on."""
    spaces: dict[str, Any]
    """{"observation", "action"}: those of the environment (`wm_gym.common.space_data`); empty where nobody said."""
    camera: str
    task_description: str
    tasks: list[str]
    """The text of each episode."""
    env_id: str | None
    env_kwargs: dict[str, Any]
    horizon: int
    """Steps of the longest episode, or the environment's own."""
    dataset_hash: str
    dataset: str
    """Its folder."""
    latest_row: NotRequired[int]
    """Where the last of several joined recordings begins."""
    damaged: NotRequired[dict[int, str]]
    """{episode left out: why it cannot be read}."""
    episodes: NotRequired[list[int]]
    """Each episode's number in the dataset, where some were left out."""


@dataclass
class ClipData:
    """All rows of a dataset with one camera's frames; the rows of episode e are episode_offset[e]:episode_offset[e+1].

    Row t holds observation t and action t, which leads to observation t+1; an episode's last row has no successor.
    """

    frames: Frames
    """uint8 [N, H, W, 3], mostly a memory map."""
    action: np.ndarray
    """float32 [N, A]."""
    proprioception: np.ndarray
    """float32 [N, P]; P may be 0."""
    reward: np.ndarray
    """float32 [N, R], the terms of transition t -> t+1; zeros where the dataset has none."""
    success: np.ndarray
    """bool [N], of the row's observation."""
    terminated: np.ndarray
    """bool [N], whether the task ended, other than by a limit of time, at the row's observation."""
    episode_offset: np.ndarray
    """int64 [E+1]."""
    physics_state: np.ndarray | None
    """float64 [N, S]."""
    episode_success: np.ndarray
    """bool [E]."""
    meta: ClipMeta

    def __len__(self) -> int:
        return len(self.episode_offset) - 1

    @property
    def numbers(self) -> list[int]:
        """The number of each episode in its dataset."""
        return self.meta.get("episodes") or list(range(len(self)))

    def transitions(self, episodes: Iterable[int]) -> np.ndarray:
        """Rows int64 [n] of some episodes whose action led somewhere: all of each but its last."""
        return np.concatenate([np.arange(self.episode_offset[e], self.episode_offset[e + 1] - 1) for e in episodes])


def open_clips(
    dataset: str | Path,
    camera: str | None = None,
    size: Sequence[int] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    skip_damaged: bool = False,
) -> ClipData:
    """Open a dataset for training, its frames decoded into the cache where they are not there yet.

    Args:
        dataset: Its folder, of any format that `formats.registry` knows.
        camera: Its short or whole name; the first by default.
        size: (height, width) to resize frames to by area; the stored size by default.
        cache_dir: Where decoded frames are kept, if not in the cache folder.
        progress: Show a bar while decoding.
        skip_damaged: Leave damaged episodes out, with a warning that names them.

    Raises:
        DatasetError: For whatever else is wrong with the dataset.
    """
    reader = open_reader(dataset, skip_damaged=skip_damaged)
    camera = reader.camera(camera)
    size = tuple(int(side) for side in (size or reader.frame_size(camera)))
    if len(size) != 2 or min(size) < 1:
        raise DatasetError(f"size is {size}, expected (height, width) in pixels, for example (64, 64)")
    terms = _reward_terms(reader)
    keys = ("action", "observation.state", "physics_state", "next.success", "next.terminated", *terms)
    stored = reader.columns([key for key in keys if key in reader.features])
    digest = reader.content_hash(camera)
    frames: Frames = _frames(reader, camera, size, digest, cache_dir, progress)
    rows, offset = reader.sound_rows()
    if reader.damaged:
        warn_left_out(reader, reader.damaged)
        digest = hashed(f"{digest} without {sorted(reader.damaged)}")
        frames = SelectedFrames(frames, rows)
        stored = {key: value[rows] for key, value in stored.items()}
    columns = {key: value.reshape(len(rows), -1) for key, value in stored.items()}
    action, state = (columns.get(key, np.zeros((len(rows), 0))) for key in ("action", "observation.state"))
    reward = np.concatenate([columns[key] for key in terms], 1) if terms else np.zeros((len(rows), 1))
    success = _reached(offset, columns.get("next.success"))
    return ClipData(
        frames=frames,
        action=action.astype(np.float32),
        proprioception=state.astype(np.float32),
        reward=reward.astype(np.float32),
        success=success,
        terminated=_reached(offset, columns.get("next.terminated")),
        episode_offset=offset,
        physics_state=columns.get("physics_state"),
        episode_success=np.logical_or.reduceat(success, offset[:-1]),
        meta=_meta(reader, action.astype(np.float32), state.shape[1], camera, digest),
    )


def join_clips(parts: Sequence[ClipData]) -> ClipData:
    """Several recordings of one environment as one; DatasetError where their features differ."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        there = _features(part)
        for what, a in _features(first).items():
            if a != (b := there[what]) and (a and b or what != "spaces"):  # older recordings do not say their spaces
                raise DatasetError(
                    f"{part.meta['dataset']} has {what} {b}, {first.meta['dataset']} has {a}; only "
                    f"recordings of the same environment can be joined"
                )
    before = np.cumsum([0, *(len(part.frames) for part in parts)])
    physics = [part.physics_state for part in parts if part.physics_state is not None]
    columns = ("action", "proprioception", "reward", "success", "terminated", "episode_success")
    meta = first.meta | {
        "action_low": np.min([part.meta["action_low"] for part in parts], 0).tolist(),
        "action_high": np.max([part.meta["action_high"] for part in parts], 0).tolist(),
        "latest_row": int(before[-2]),
        "spaces": next((part.meta["spaces"] for part in parts if part.meta["spaces"]), {}),
        "tasks": [task for part in parts for task in part.meta["tasks"]],
        "dataset_hash": hashed(" ".join(part.meta["dataset_hash"] for part in parts)),
        "horizon": max(part.meta["horizon"] for part in parts),
    }
    meta.pop("damaged", None)  # numbers of several datasets would clash
    meta.pop("episodes", None)
    return ClipData(
        frames=JoinedFrames([part.frames for part in parts]),
        episode_offset=np.concatenate([[0], *(part.episode_offset[1:] + n for part, n in zip(parts, before))]),
        physics_state=np.concatenate(physics) if len(physics) == len(parts) else None,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        meta=meta,
    )


def _features(clips: ClipData) -> dict[str, Any]:
    """What recordings that are joined have in common."""
    keys = ("action_names", "action_bounds", "proprioception_names", "reward_terms", "has_success", "spaces", "camera")
    meta: Mapping[str, Any] = clips.meta
    same = {"frame size": clips.frames.shape[1:], "env_id": str(meta["env_id"]).rpartition(":")[2]}  # less its module
    return same | {key: meta[key] for key in keys}


def hashed(text: str, size: int = 16) -> str:
    """A digest of text, `size` bytes in hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


def _reward_terms(reader: Reader) -> list[str]:
    """The columns of rewards, in the order that info.json states."""
    terms = [key for key in reader.features if key.startswith("next.reward.")]
    stated = [f"next.reward.{term}" for term in reader.notes.get("reward_terms", [])]
    ordered = [t for t in stated if t in terms] + [t for t in terms if t not in stated]
    return ordered or [key for key in ("next.reward",) if key in reader.features]


def _reached(offset: np.ndarray, transitions: np.ndarray | None) -> np.ndarray:
    """What holds of observations, bool [N], from what transitions [N, 1] led to."""
    reached = np.zeros(int(offset[-1]), bool)
    if transitions is None:
        return reached
    flags = transitions[:, 0].astype(bool)
    reached[1:] = flags[:-1]  # observation t+1 is what transition t led to
    reached[offset[:-1]] = False  # no transition leads to a first observation
    last = offset[1:] - 1
    reached[last] |= flags[last]  # some datasets set the last row's flag only
    return reached


def _meta(reader: Reader, action: np.ndarray, states: int, camera: str, digest: str) -> ClipMeta:
    ours, actions, terms = reader.notes, action.shape[1], _reward_terms(reader)
    low, high, stated = ours.get("action_low"), ours.get("action_high"), True
    if low is None or high is None:
        low, high, stated = action.min(0).tolist(), action.max(0).tolist(), False
    tasks = [reader.tasks[e] for e in reader.sound]
    texts = [task for task in tasks if task]
    meta: ClipMeta = {
        "fps": reader.fps,
        "action_names": reader.names("action", actions) or [f"action_{i}" for i in range(actions)],
        "action_low": list(low),
        "action_high": list(high),
        "action_bounds": "stated" if stated else "data",
        "proprioception_names": reader.names("observation.state", states) or [f"state_{i}" for i in range(states)],
        "action_unit": ours.get("action_unit", ""),
        "proprioception_unit": ours.get("proprioception_unit", ""),
        "reward_terms": [term.removeprefix("next.").removeprefix("reward.") for term in terms] or ["reward"],
        "has_reward": bool(terms),
        "has_success": "next.success" in reader.features,
        "success_ends": ours.get("success_ends", True),
        "spaces": ours.get("spaces") or {},
        "camera": camera.removeprefix(CAMERA_PREFIX),
        "task_description": ours.get("task_description") or (max(texts, key=texts.count) if texts else ""),
        "tasks": tasks,
        "env_id": ours.get("env_id"),
        "env_kwargs": ours.get("env_kwargs", {}),
        "horizon": int(ours.get("horizon") or max(reader.length[reader.sound]) - 1),
        "dataset_hash": digest,
        "dataset": str(reader.root),
    }
    if reader.damaged:
        meta["damaged"], meta["episodes"] = dict(reader.damaged), reader.sound
    return meta


def _frames(
    reader: Reader, camera: str, size: Sequence[int], digest: str, cache_dir: str | Path | None, progress: bool
) -> np.ndarray:
    """The frames [N, h, w, 3], a memory map in the cache, decoded into it where they are not there yet."""
    key = hashed(f"{digest} {camera} {size}" + " but the damaged" * reader.skip_damaged, 12)
    shape = (int(reader.offset[-1]), *size, 3)

    def place(cache: str | Path) -> Path:
        path = Path(cache) / "frames" / key / "frames.npy"
        if not path.is_file():
            writable(path.parent.parent)
        return path

    path = place(cache_dir) if cache_dir else kept_or_scratch(place)
    if not path.is_file():
        _decode(reader, camera, shape, path, progress)
    if reader.skip_damaged:
        reader.know(read_json(path.with_name(DAMAGED)))
    try:
        frames = np.load(path, mmap_mode="r")
    except ValueError as error:
        raise DatasetError(f"{path} is damaged ({error}); delete {path.parent}, it is decoded again") from None
    if frames.shape != shape:
        raise DatasetError(
            f"{path} has shape {frames.shape}, expected {shape}; delete {path.parent}, it is decoded again"
        )
    return frames


def _decode(reader: Reader, camera: str, shape: tuple[int, ...], path: Path, progress: bool) -> None:
    from tqdm import tqdm

    need = int(np.prod(shape, dtype=np.int64))
    free = shutil.disk_usage(path.parent.parent).free
    if need > free:
        raise DatasetError(
            f"decoding {reader.root} at {shape[1]}x{shape[2]} needs {need / 1e9:.1f} GB, "
            f"{path.parent.parent} has {free / 1e9:.1f} GB free; give a smaller size or set "
            f"WM_GYM_CACHE to a folder on a larger disk"
        )
    with atomic_folder(path.parent) as beside:  # another process that decodes them too makes the same
        frames = np.lib.format.open_memmap(beside / path.name, mode="w+", dtype=np.uint8, shape=shape)
        reserve(beside / path.name)
        rows = tqdm(reader.iter_frames(camera), total=shape[0], unit="frame", desc="decoding", disable=not progress)
        for row, frame in rows:
            frames[row] = resized(frame, shape[1:3])
        frames.flush()
        if reader.skip_damaged:
            write_json(beside / DAMAGED, reader.damaged)
