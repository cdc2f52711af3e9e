"""Where may an episode start? A bank of real clips: pictures, actions, proprioception, simulator state."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STARTS_FILE = "starts.safetensors"


@dataclass
class StartBank:
    """N short clips of T frames, oldest first; episodes start at each clip's last frame."""

    frames: np.ndarray
    """uint8 [N, T, H, W, 3]."""
    actions: np.ndarray
    """float32 [N, T-1, A]."""
    proprioception: np.ndarray
    """float32 [N, T, P]; P may be 0."""
    episode: np.ndarray
    """int64 [N], episode of the dataset."""
    t: np.ndarray
    """int64 [N], step of the last frame in its episode."""
    physics_state: np.ndarray | None = None
    """float64 [N, S], the simulator's state at the last frame, where there is one."""

    def __len__(self) -> int:
        return len(self.episode)

    def index(self, episode: int, t: int) -> int:
        """Position of the clip that ends at step t of an episode; ValueError if the bank holds none."""
        found = np.flatnonzero((self.episode == episode) & (self.t == t))
        if not len(found):
            steps = self.t[self.episode == episode]
            there = f"steps {sorted(steps.tolist())} of it" if len(steps) else \
                f"episodes {np.unique(self.episode)[:8].tolist()} …"
            raise ValueError(f"the start bank holds no clip at episode={episode}, t={t}; it has {there} "
                             f"({len(self)} clips)")
        return int(found[0])

    def save(self, folder: str | Path) -> None:
        """Write `starts.safetensors`; the frames as one lossless PNG strip."""
        from PIL import Image
        from safetensors.numpy import save_file

        n, t, h, w, _ = self.frames.shape
        png = io.BytesIO()
        Image.fromarray(self.frames.reshape(n * t * h, w, 3)).save(png, "PNG", optimize=True)
        tensors = {"frames_png": np.frombuffer(png.getvalue(), np.uint8), "frames_shape": np.array([n, t, h, w]),
                   "actions": self.actions, "proprioception": self.proprioception,
                   "episode": self.episode, "t": self.t}
        if self.physics_state is not None:
            tensors["physics_state"] = self.physics_state
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, Path(folder, STARTS_FILE))

    @classmethod
    def load(cls, folder: str | Path) -> "StartBank":
        """Read `starts.safetensors`; raises FileNotFoundError or ValueError naming the file."""
        from PIL import Image
        from safetensors.numpy import load_file

        path = Path(folder, STARTS_FILE)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; a world needs its bank of starts: retrain, or copy it back")
        try:
            tensors = load_file(path)
            n, t, h, w = tensors["frames_shape"].tolist()
            strip = Image.open(io.BytesIO(tensors["frames_png"].tobytes()))
            if strip.size != (w, n * t * h):
                raise ValueError(f"picture strip is {strip.size}, expected {(w, n * t * h)}")
            frames = np.asarray(strip.convert("RGB")).reshape(n, t, h, w, 3)
            return cls(frames, tensors["actions"], tensors["proprioception"], tensors["episode"], tensors["t"],
                       tensors.get("physics_state"))
        except Exception as error:
            raise ValueError(f"{path} is damaged ({error}); download or train the world again") from error
