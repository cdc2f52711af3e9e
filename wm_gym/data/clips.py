"""How does training get at the frames of a dataset fast? As a uint8 memory map, decoded once into a cache.

The cache folder is `wm_gym.common.cache_folder`'s; an entry is keyed by the dataset's content, the camera
and the size, so a changed dataset is decoded anew and an entry can be deleted at any time.
"""

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wm_gym.common.cache_folder import kept_or_scratch, writable
from wm_gym.common.files import atomic_folder, reserve, write_json
from wm_gym.data.curation.selection import SelectedFrames
from wm_gym.data.formats.lerobot_schema import CAMERA_PREFIX, DatasetError, read_json
from wm_gym.data.formats.reader import warn_left_out
from wm_gym.data.formats.registry import open_reader
from wm_gym.data.resize import resize_area

DAMAGED = "damaged.json"  # beside frames that were decoded as far as they can be: the episodes that cannot, and why

SAME = ("action_names", "action_bounds", "proprioception_names", "reward_terms", "has_success", "env_id", "camera")


@dataclass
class ClipData:
    """All rows of a dataset with one camera's frames; rows of episode e are episode_offset[e]:episode_offset[e+1].

    Row t holds observation t and action t, which leads to observation t+1; an episode's last row has no successor.
    frames uint8 memmap (or JoinedFrames) [N, H, W, 3]; action float32 [N, A]; proprioception float32 [N, P] (P may be
    0); reward float32 [N, R], the terms of transition t -> t+1 (zeros where the dataset has none); success bool [N], of
    the row's observation; episode_offset int64 [E+1]; physics_state float64 [N, S] or None; episode_success bool [E].
    meta: fps, action_names, action_low, action_high, action_bounds ("stated" by the dataset, or "data": its smallest
    and largest values), action_unit, proprioception_names, proprioception_unit ("" where nobody said), reward_terms,
    has_reward, has_success, camera, task_description, tasks (text of each episode), latest_row (where the last of
    several joined recordings begins), env_id, env_kwargs, horizon, dataset_hash, dataset; damaged {episode: why} and
    episodes, each one's number in the dataset, where damaged ones were left out.
    """

    frames: np.ndarray
    action: np.ndarray
    proprioception: np.ndarray
    reward: np.ndarray
    success: np.ndarray
    episode_offset: np.ndarray
    physics_state: np.ndarray | None
    episode_success: np.ndarray
    meta: dict = field(default_factory=dict)

    def __len__(self):
        return len(self.episode_offset) - 1

    @property
    def numbers(self):
        """The number of each episode in its dataset."""
        return self.meta.get("episodes") or list(range(len(self)))

    def transitions(self, episodes):
        """Rows int64 [n] of some episodes whose action led somewhere: all of each but its last."""
        return np.concatenate([np.arange(self.episode_offset[e], self.episode_offset[e + 1] - 1) for e in episodes])


def open_clips(dataset, camera=None, size=None, cache_dir=None, progress=True, skip_damaged=False):
    """Open the dataset folder `dataset`, of any format that `formats` knows, for training -> ClipData.

    camera: short or whole name, default the first. size: (H, W) to resize to by area, default the stored size.
    skip_damaged: leave damaged episodes out, with a warning that names them. Raises DatasetError for whatever else is
    wrong with the dataset.
    """
    reader = open_reader(dataset, skip_damaged=skip_damaged)
    camera = reader.camera(camera)
    size = tuple(int(side) for side in (size or reader.frame_size(camera)))
    if len(size) != 2 or min(size) < 1:
        raise DatasetError(f"size is {size}, expected (height, width) in pixels, for example (64, 64)")
    columns = _columns(reader)
    digest = reader.content_hash(camera)
    frames = _frames(reader, camera, size, digest, cache_dir, progress)
    rows, offset = reader.sound_rows()
    if reader.damaged:
        warn_left_out(reader, reader.damaged)
        digest = hashlib.blake2b(f"{digest} without {sorted(reader.damaged)}".encode(), digest_size=16).hexdigest()
        frames = SelectedFrames(frames, rows)
        columns = {key: value[rows] if isinstance(value, np.ndarray) else value for key, value in columns.items()}
    success, episode_success = _success(offset, columns)
    return ClipData(
        frames=frames,
        action=columns["action"],
        proprioception=columns["proprioception"],
        reward=columns["reward"],
        success=success,
        episode_offset=offset,
        physics_state=columns["physics_state"],
        episode_success=episode_success,
        meta=_meta(reader, columns, camera, digest),
    )


def join_clips(parts):
    """Join recordings of one environment (ClipData of the same features); DatasetError where they differ."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for part in parts[1:]:
        for what, a, b in (
            ("frame size", first.frames.shape[1:], part.frames.shape[1:]),
            *((k, first.meta[k], part.meta[k]) for k in SAME),
        ):
            if a != b:
                raise DatasetError(
                    f"{part.meta['dataset']} has {what} {b}, {first.meta['dataset']} has {a}; only "
                    f"recordings of the same environment can be joined"
                )
    joined = {
        key: np.concatenate([getattr(part, key) for part in parts])
        for key in ("action", "proprioception", "reward", "success", "episode_success")
    }
    physics = [part.physics_state for part in parts]
    before = np.cumsum([0, *(len(part.frames) for part in parts)])
    offset = np.concatenate([[0], *(part.episode_offset[1:] + n for part, n in zip(parts, before))])
    digest = hashlib.blake2b(" ".join(part.meta["dataset_hash"] for part in parts).encode(), digest_size=16)
    one = {key: value for key, value in first.meta.items() if key not in ("damaged", "episodes")}  # their numbers clash
    meta = one | {
        "action_low": np.min([part.meta["action_low"] for part in parts], 0).tolist(),
        "action_high": np.max([part.meta["action_high"] for part in parts], 0).tolist(),
        "latest_row": int(before[-2]),
        "tasks": sum((part.meta["tasks"] for part in parts), []),
        "dataset_hash": digest.hexdigest(),
        "horizon": max(part.meta["horizon"] for part in parts),
    }
    return ClipData(
        frames=JoinedFrames([part.frames for part in parts]),
        episode_offset=offset,
        meta=meta,
        physics_state=None if any(x is None for x in physics) else np.concatenate(physics),
        **joined,
    )


class JoinedFrames:
    """Several frame arrays [N, H, W, 3] as one, read by slices and integer arrays without joining them in memory."""

    def __init__(self, parts):
        self.parts, self.ends = parts, np.cumsum([len(part) for part in parts])
        self.shape = (int(self.ends[-1]), *parts[0].shape[1:])

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        rows = np.arange(len(self))[rows]
        out = np.empty((*rows.shape, *self.shape[1:]), np.uint8)
        which = np.searchsorted(self.ends, rows, side="right")
        for number, part in enumerate(self.parts):
            mask = which == number
            if mask.any():
                out[mask] = part[rows[mask] - (self.ends[number] - len(part))]
        return out


def _columns(reader):
    terms = [key for key in reader.features if key.startswith("next.reward.")]
    terms = _ordered(reader, terms) or [key for key in ("next.reward",) if key in reader.features]
    optional = [key for key in ("observation.state", "physics_state", "next.success") if key in reader.features]
    raw = reader.columns([*(["action"] if "action" in reader.features else []), *optional, *terms])
    rows = int(reader.offset[-1])
    flat = {key: value.reshape(rows, -1) for key, value in raw.items()}
    action, state = (flat.get(key, np.zeros((rows, 0))) for key in ("action", "observation.state"))
    reward = np.concatenate([flat[key] for key in terms], 1) if terms else np.zeros((rows, 1))
    names = [term.removeprefix("next.").removeprefix("reward.") for term in terms]
    return {
        "action": action.astype(np.float32),
        "proprioception": state.astype(np.float32),
        "reward": reward.astype(np.float32),
        "reward_terms": names,
        "physics_state": flat.get("physics_state"),
        "next.success": flat.get("next.success"),
    }


def _ordered(reader, terms):
    """Put reward terms in the order that info.json states."""
    stated = [f"next.reward.{term}" for term in reader.notes.get("reward_terms", [])]
    return [t for t in stated if t in terms] + [t for t in terms if t not in stated]


def _success(offset, columns):
    """Turn next.success (of transitions) into success of observations [N] and of episodes [E]."""
    flags = columns["next.success"]
    success = np.zeros(int(offset[-1]), bool)
    if flags is None:
        return success, np.zeros(len(offset) - 1, bool)
    flags = flags[:, 0].astype(bool)
    success[1:] = flags[:-1]  # observation t+1 is what transition t led to
    success[offset[:-1]] = False  # no transition leads to a first observation
    last = offset[1:] - 1
    success[last] |= flags[last]  # some datasets set the last row's flag only
    return success, np.logical_or.reduceat(success, offset[:-1])


def _meta(reader, columns, camera, digest):
    ours, action = reader.notes, columns["action"]
    low, high, stated = ours.get("action_low"), ours.get("action_high"), True
    if low is None or high is None:
        low, high, stated = action.min(0).tolist(), action.max(0).tolist(), False
    tasks = [reader.tasks[e] for e in reader.sound]
    texts = [task for task in tasks if task]
    left_out = {"damaged": dict(reader.damaged), "episodes": reader.sound} if reader.damaged else {}
    return left_out | {
        "fps": reader.fps,
        "action_names": _names(reader, "action", action.shape[1]),
        "action_low": list(low),
        "action_high": list(high),
        "action_bounds": "stated" if stated else "data",
        "proprioception_names": _names(reader, "observation.state", columns["proprioception"].shape[1]),
        "action_unit": ours.get("action_unit", ""),
        "proprioception_unit": ours.get("proprioception_unit", ""),
        "reward_terms": columns["reward_terms"] or ["reward"],
        "has_reward": bool(columns["reward_terms"]),
        "has_success": columns["next.success"] is not None,
        "camera": camera.removeprefix(CAMERA_PREFIX),
        "task_description": ours.get("task_description") or (max(texts, key=texts.count) if texts else ""),
        "tasks": tasks,
        "env_id": ours.get("env_id"),
        "env_kwargs": ours.get("env_kwargs", {}),
        "horizon": int(ours.get("horizon") or max(reader.length[reader.sound]) - 1),
        "dataset_hash": digest,
        "dataset": str(reader.root),
    }


def _names(reader, key, size):
    """Give one name a number of the feature, numbered ones where the dataset has none."""
    names = reader.features.get(key, {}).get("names")
    if isinstance(names, dict):  # lerobot also writes {"motors": [...]}
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    short = key.rpartition(".")[2]
    return list(names) if isinstance(names, list) and len(names) == size else [f"{short}_{i}" for i in range(size)]


def _frames(reader, camera, size, digest, cache_dir, progress):
    """Memory-map the frames [N, h, w, 3] from the cache, decoding them into it where they are not there yet."""
    key = f"{digest} {camera} {size}" + " but the damaged" * reader.skip_damaged
    key = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
    shape = (int(reader.offset[-1]), *size, 3)

    def place(cache):
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


def _decode(reader, camera, shape, path, progress):
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
            frames[row] = frame if frame.shape == shape[1:] else resize_area(frame[None], shape[1:3])[0]
        frames.flush()
        if reader.skip_damaged:
            write_json(beside / DAMAGED, reader.damaged)
