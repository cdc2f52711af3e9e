"""What is in a Minari dataset whose observations hold pictures? Read through the `minari` package.

An episode of T actions has T + 1 observations: it becomes T + 1 rows, the last of which repeats the last action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import minari
import numpy as np

from wm_gym.data.formats.lerobot_schema import AGAIN, CAMERA_PREFIX, DatasetError, Feature, check_features, feature
from wm_gym.data.formats.reader import Reader

T = TypeVar("T")


class MinariReader(Reader):
    """The reader of a Minari dataset: the folder above data/, or data/ itself.

    fps: frames a second, default the environment's render_fps where the dataset names one. Box observations of
    uint8 [H, W, 3] become observation.images.NAME, the other Box observations, one after the other,
    observation.state.
    """

    format = "minari"

    def __init__(self, root: str | Path, fps: float | None = None, skip_damaged: bool = False) -> None:
        root = Path(root)
        super().__init__(root, skip_damaged)
        data = root / "data" if (root / "data/metadata.json").is_file() else root
        self._data = self._guard(lambda: minari.MinariDataset(data), data)
        spaces = dict(_flat(self._data.observation_space))
        self._pictures = {CAMERA_PREFIX + (name or "main"): name for name, s in spaces.items() if _is_picture(s)}
        self._states = [name for name, s in spaces.items() if not _is_picture(s)]
        actions = dict(_flat(self._data.action_space))
        self._actions = list(actions)
        features: dict[str, Feature] = {
            key: {"dtype": "image", "shape": list(spaces[name].shape or ()), "names": ["height", "width", "channels"]}
            for key, name in self._pictures.items()
        }
        for key, names, of in (("action", self._actions, actions), ("observation.state", self._states, spaces)):
            if names:
                features[key] = feature("float32", sum(math.prod(of[n].shape or ()) for n in names))
        features["next.reward"] = feature("float32")
        check_features(data / "metadata.json", features)
        self._ids = list(self._data.episode_indices)
        self.num_episodes = len(self._ids)
        if not self._ids:
            raise DatasetError(f"{root} holds no episodes; {AGAIN}")
        lengths = [0] * self.num_episodes
        for e in range(self.num_episodes):
            with self._noting(e):
                lengths[e] = len(_at(self._read(e).actions, self._actions[0])) + 1
        self._settle()
        self._describe(fps or self._rate(root), features, lengths, [""] * len(lengths))

    def _columns(self, episode: int, keys: list[str]) -> dict[str, np.ndarray]:
        read = self._read(episode)
        return {key: self._numbers(read, key, episode) for key in keys}

    def _numbers(self, episode: minari.EpisodeData, key: str, e: int) -> np.ndarray:
        """One column float32 [length, D] of an episode."""
        values, names, hold = {
            "action": (episode.actions, self._actions, True),
            "observation.state": (episode.observations, self._states, False),
            "next.reward": (np.asarray(episode.rewards)[:, None], [""], True),
        }[key]
        parts = [np.asarray(_at(values, n), np.float32).reshape(len(_at(values, n)), -1) for n in names]
        if len({len(part) for part in parts}) == 1:
            array = np.concatenate(parts, 1)
            if hold and len(array):
                array = np.concatenate([array, array[-1:] if key == "action" else np.zeros_like(array[-1:])])
            if array.shape == (self.length[e], *self.features[key]["shape"]):
                return array
        raise DatasetError(
            f"{key} has {', '.join(str(len(part)) for part in parts)} rows of "
            f"{sum(part.shape[1] for part in parts)} numbers, expected {self.length[e] - hold} of "
            f"{self.features[key]['shape'][0]}; {AGAIN}"
        )

    def _decode(self, camera: str, episode: int) -> Iterator[np.ndarray]:
        frames = np.asarray(_at(self._read(episode).observations, self._pictures[camera]))
        if len(frames) != self.length[episode] or frames.dtype != np.uint8:
            raise DatasetError(
                f"{self.root}: {camera} of episode {episode} is {frames.dtype} {frames.shape}, expected uint8 "
                f"[{self.length[episode]}, H, W, 3]; {AGAIN}"
            )
        self._check_frame(camera, frames[0], self.root)
        yield from frames

    def files(self, camera: str | None) -> list[Path]:
        """All files of the dataset."""
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def _read(self, e: int) -> minari.EpisodeData:
        return self._guard(lambda: next(iter(self._data.iterate_episodes([self._ids[e]]))), self.root)

    def _guard(self, call: Callable[[], T], path: Path) -> T:
        """Call into minari; whatever it makes of damaged files becomes a DatasetError."""
        try:
            return call()
        except (ImportError, MemoryError):
            raise
        except Exception as error:
            raise DatasetError(f"minari cannot read {path}: {type(error).__name__}: {error}; {AGAIN}") from None

    def _rate(self, root: Path) -> float:
        """Frames a second of the environment. Minari would make it of the file's own entry point: any code at all."""
        from wm_gym.common.registry import registered

        rate, why = None, ""
        if self._data.env_spec is not None:
            try:
                env = gym.make(registered(self._data.env_spec.id, "its environment"))
                rate = env.metadata.get("render_fps")
                env.close()
            except ValueError as error:
                why = f" ({error})"
            except Exception:
                pass  # the environment cannot be made here
        if not rate:
            raise DatasetError(
                f"{root} does not say its frame rate{why}; give it, e.g. --fps 20, with: wm-gym data "
                f"convert {root} --fps 20 --to DIR"
            )
        return rate


def _flat(space: gym.Space, prefix: str = "") -> Iterator[tuple[str, gym.spaces.Box | gym.spaces.Discrete]]:
    """Yield (name, Box or Discrete space) of the leaves of an observation or action space."""
    if isinstance(space, gym.spaces.Dict):
        for name, child in space.spaces.items():
            yield from _flat(child, f"{prefix}/{name}" if prefix else name)
    elif isinstance(space, (gym.spaces.Box, gym.spaces.Discrete)):
        yield prefix, space
    else:
        raise DatasetError(
            f"the space {prefix or 'of the dataset'} is a {type(space).__name__}; expected Box, "
            f"Discrete or a Dict of them: flatten it before recording"
        )


def _is_picture(space: gym.Space) -> bool:
    return space.shape is not None and len(space.shape) == 3 and space.shape[2] == 3 and space.dtype == np.uint8


def _at(values: Any, name: str) -> Any:
    """Find what "a/b" names in nested dictionaries of arrays; "" is the array itself."""
    for part in name.split("/") if name else ():
        values = values[part]
    return values
