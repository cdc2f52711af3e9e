"""Which actions does this video show, and does it show any? Inverse dynamics that refuse what no robot could do."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from tqdm import tqdm

from wm_gym.common.files import atomic_folder, check_free, recover, unchanged, write_json
from wm_gym.common.metrics import worst_patch
from wm_gym.common.options import with_changes
from wm_gym.common.reading import check, many, mapping, maybe, read_mapping, real, text, whole
from wm_gym.data.clips import ClipData
from wm_gym.data.formats.lerobot_resume import WRITING
from wm_gym.data.formats.lerobot_schema import CAMERA, Feature, feature, video_feature
from wm_gym.data.formats.lerobot_writer import LeRobotWriter
from wm_gym.data.formats.registry import open_reader
from wm_gym.data.resize import resize_area
from wm_gym.engine.rollout import roll_out
from wm_gym.engine.shared import load_engine, load_world
from wm_gym.inverse.fit import fit_inverse_dynamics, split_labels, without_probe
from wm_gym.inverse.options import FitOptions
from wm_gym.models.inverse_dynamics import InverseDynamics, Latent
from wm_gym.models.loading import load_model
from wm_gym.models.tokenizer import to_float

ABOUT_FILE, NETWORK = "inverse_dynamics.json", "network"
BOUNDS = many(real(-1e9, 1e9))
ABOUT = {
    "action_names": many(text(200)),
    "action_low": BOUNDS,
    "action_high": BOUNDS,
    "action_unit": text(),
    "limits": mapping(),
    "world": maybe(text(4096)),
    "episodes": whole(0, 10**12),
}
"""What of it is acted on."""
AT_ONCE = 32  # steps that the world is asked about together
PATCH = 8  # pixels: the part of a picture in which the world may be surprised
TOLERATED = 0.99  # share of held-out episodes whose largest value of a sign is allowed
MARGIN = 1.1
REASONS = {
    "jump": "the robot leaps {value:.3g} from frame {frame} to the next, at most {limit:.3g} in the recordings",
    "kinematics": "from frame {frame} to the next the robot moves {value:.3g} otherwise than the action read there "
    "moves it, at most {limit:.3g} in the recordings",
    "surprise": "frame {after} is not what the world expects after frame {frame}: a patch is {value:.3g} grey levels "
    "off, at most {limit:.3g} in the recordings",
}


class ActionMeaning(TypedDict):
    """What the numbers of an action mean."""

    action_names: list[str]
    action_low: list[float]
    action_high: list[float]
    action_unit: str


class About(ActionMeaning):
    """What inverse dynamics were trained on, as their JSON file has it."""

    limits: dict[str, float]
    """The largest value of each sign in `REASONS` that is believed."""
    episodes: int
    recording: NotRequired[str]
    dataset_hash: NotRequired[str]
    updates: NotRequired[int]
    seed: NotRequired[int]
    fps: NotRequired[float]
    env_id: NotRequired[str | None]


class RealActionMap(TypedDict):
    """The linear map from real actions to latent ones, which `wm_gym.wrappers.RealActions` takes."""

    matrix: list[list[float]]
    """[A+1][Z], the last row a constant."""
    episodes: int
    action_names: list[str]
    action_low: list[float]
    action_high: list[float]


class Rejected(ValueError):
    """A video from which no actions are made; its text says at which frame it does what no robot does."""


@dataclass
class VideoLabeller:
    """Reads actions off video, with the limits that its held-out recordings kept to."""

    network: InverseDynamics
    about: About
    """What it was trained on, and the limits."""
    world: str | None = None
    """The world whose expectations the sign "surprise" compares."""

    @torch.inference_mode()
    def read(self, frames: np.ndarray) -> np.ndarray:
        """The actions that a video shows, whether it is believable or not.

        Each is read in the window in which it is nearest to the middle.

        Args:
            frames: uint8 [T, H, W, 3].

        Returns:
            float32 [T-1, A].

        Raises:
            ValueError: For frames of another size, and for fewer than 2.
        """
        video = self._video(frames)
        window = self.network.config["window"]
        if len(frames) < window:  # the last frame stands still
            video = torch.cat([video, video[-1:].expand(window - len(video), *video.shape[1:])])
        starts = sorted({*range(0, len(video) - window + 1, max(1, (window - 1) // 2)), len(video) - window})
        found = torch.cat(
            [
                self.network(torch.stack([video[s : s + window] for s in some]))
                for some in np.array_split(starts, -(-len(starts) // 32))
            ]
        )
        middle = np.array(starts) + (window - 2) / 2
        nearest = np.abs(np.arange(len(frames) - 1)[:, None] - middle).argmin(1)
        return found.numpy()[nearest, np.arange(len(frames) - 1) - np.array(starts)[nearest]]

    def label(self, frames: np.ndarray) -> np.ndarray:
        """Actions [T-1, A] of a video uint8 [T, H, W, 3], inside their bounds; Rejected where it cannot be believed."""
        actions = self.read(frames)
        for sign, values in self.signs(frames, actions).items():
            frame, limit = int(np.argmax(values)), self.about["limits"][sign]
            if values[frame] > limit:
                raise Rejected(REASONS[sign].format(value=values[frame], limit=limit, frame=frame, after=frame + 1))
        low, high = np.array([self.about["action_low"], self.about["action_high"]], np.float32)
        return np.clip(actions, low, high)

    @torch.inference_mode()
    def signs(self, frames: np.ndarray, actions: np.ndarray) -> dict[str, np.ndarray]:
        """What `label` looks at, of each step of a video and the actions [T-1, A] read there: {sign: [T-1]}.

        "jump": how far the pose read off the frames moves; "kinematics": how far from where the action moves it;
        "surprise": the largest difference of a patch to the frame that the world expects after the one before.
        """
        found = {}
        if self.network.where is not None:
            video = self._video(frames)
            moved = torch.cat([self.network.pose(part[None])[0] for part in video.split(256)]).diff(dim=0)
            found["jump"] = moved.norm(dim=1).numpy()
            found["kinematics"] = (moved - self.network.moved(torch.from_numpy(actions))).norm(dim=1).numpy()
        if self.world is not None:
            found["surprise"] = self._surprise(self.world, frames, actions)
        return found

    def _surprise(self, name: str, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
        world = load_world(name)
        low, high = np.array([world.spec.action_low, world.spec.action_high], np.float32)
        engine, n = load_engine(world, "auto", "auto", decode=True), len(actions)
        made = []
        for first in range(0, n, AT_ONCE):  # always as many: an engine is compiled for each size of a batch
            rows = np.minimum(np.arange(first, first + AT_ONCE), n - 1)
            given, pose = np.clip(actions[rows], low, high)[:, None], np.zeros((AT_ONCE, 1, 0), np.float32)
            made.append(roll_out(world, frames[rows, None], given, pose, engine=engine)["frame"][:, 0])
        return worst_patch(np.concatenate(made)[:n], frames[1:], PATCH)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the frames that it reads."""
        height, width = self.network.config["frame_size"]
        return height, width

    def _video(self, frames: np.ndarray) -> torch.Tensor:
        size = self.frame_size
        if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[1:] != (*size, 3) or len(frames) < 2:
            raise ValueError(
                f"the video is {frames.dtype} {list(frames.shape)}, expected uint8 [at least 2, "
                f"{size[0]}, {size[1]}, 3]: resize it to what the inverse dynamics were trained on"
            )
        return to_float(torch.from_numpy(np.array(frames)))

    def save(self, out: Path) -> None:
        """Write the folder `out`: the network as diffusers does, and what it was trained on as JSON beside it."""
        with atomic_folder(out) as beside:
            self.network.save_pretrained(beside / NETWORK)
            write_json(beside / ABOUT_FILE, {**self.about, "world": self.world}, indent=1)

    @classmethod
    def load(cls, folder: str | Path) -> VideoLabeller:
        """Read a folder of `save`; FileNotFoundError or ValueError where it is none."""
        return unchanged(recover(folder), cls._load)

    @classmethod
    def _load(cls, folder: Path) -> VideoLabeller:
        path = folder / ABOUT_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: {folder} holds no inverse dynamics; make them with: wm-gym "
                "idm train DATASET --out IDM"
            )
        try:
            about: Any = read_mapping(path)
            check(
                path,
                {key: value for key, value in about.items() if key in ABOUT},
                ABOUT,
                needed=("world", "limits", "episodes", "action_low", "action_high"),
            )
            world, limits = about.pop("world"), about["limits"]
            check(path, limits, dict.fromkeys(REASONS, real(0, 1e30)), where="limits")
            network = load_model(folder / NETWORK, (InverseDynamics,), "inverse dynamics'").eval().requires_grad_(False)
            assert isinstance(network, InverseDynamics)
            sizes = {network.config["action_dim"], len(about["action_low"]), len(about["action_high"])}
            if len(sizes) > 1:
                raise ValueError(f"{path} has {sorted(sizes)} actions, expected as many as the network reads")
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{folder} is damaged ({error}); train it again: wm-gym idm train DATASET --out {folder} --overwrite"
            ) from error
        return cls(network, about, world)


def train_labeller(
    clips: ClipData,
    out: str | Path,
    kind: str = "transformer",
    labels: float = 1.0,
    world: str | None = None,
    overwrite: bool = False,
    options: FitOptions | None = None,
    **changes: Any,
) -> VideoLabeller:
    """Train inverse dynamics on recordings and write them to `out`; every tenth episode is held out, for its limits.

    Args:
        clips: The recordings.
        out: The folder to write.
        kind: One of `wm_gym.models.inverse_dynamics.KINDS`.
        labels: The share of the other episodes whose actions are used; 0, for the kind "latent" alone, none: its
            actions are then latent ones in [-1, 1], and a world trained on video with those takes them.
        world: A catalogue name, folder or Hub id; then half of what is shown in training is drawn by that world's
            tokenizer, and videos that surprise the world are rejected.
        overwrite: Replace inverse dynamics that are in `out`.
        options: The rest, by their defaults.
        changes: Fields of `FitOptions`, such as updates=200.

    Raises:
        FileExistsError: Where `out` is there.
        ValueError: For recordings that nothing can be learned from.
    """
    of, out = with_changes(FitOptions, options, changes), Path(out)
    check_free(out, overwrite, ABOUT_FILE, ": it holds no inverse dynamics")
    if not (0 < labels <= 1 or labels == 0 and kind == "latent"):
        raise ValueError(f"labels is {labels}, expected a share above 0, at most 1 (or 0 with the kind 'latent')")
    watched, _ = split_labels(clips)
    trained, held = split_labels(clips, labels, of.seed)
    if not labels:
        clips = _without_labels(clips)
    tokenizer = load_world(world).tokenizer if world else None
    network = fit_inverse_dynamics(clips, trained, kind, tokenizer, watched, of)
    if not labels:
        network = without_probe(network, clips, watched)
    meta: Any = clips.meta
    about: Any = {
        "recording": meta["dataset"],
        "episodes": len(trained) if labels else 0,
        "updates": of.updates,
        "seed": of.seed,
        "limits": {},
        **{key: meta[key] for key in ("dataset_hash", "fps", *ActionMeaning.__annotations__, "env_id")},
    }
    made = VideoLabeller(network, about, world)
    about["limits"] = _limits(made, clips, held)
    made.save(out)
    return made


def _limits(labeller: VideoLabeller, clips: ClipData, episodes: np.ndarray) -> dict[str, float]:
    """The largest value of each sign that is believed, by what recorded episodes show."""
    signs = []
    for e in episodes:
        frames = np.asarray(clips.frames[clips.episode_offset[e] : clips.episode_offset[e + 1]])
        actions = labeller.read(frames)
        signs.append({name: float(values.max()) for name, values in labeller.signs(frames, actions).items()})
    return {name: MARGIN * float(np.quantile([sign[name] for sign in signs], TOLERATED)) for name in signs[0]}


def _without_labels(clips: ClipData) -> ClipData:
    """The same video with room for latent actions, which nobody knows yet."""
    size = Latent.size
    return replace(
        clips,
        action=np.zeros((len(clips.frames), size), np.float32),
        meta=clips.meta
        | {
            "action_names": [f"latent_{i}" for i in range(size)],
            "action_low": [-1.0] * size,
            "action_high": [1.0] * size,
            "action_unit": "three standard deviations of the latent action",
        },
    )


def fit_real_actions(labeller: VideoLabeller, clips: ClipData, episodes: np.ndarray) -> RealActionMap:
    """The map from real actions to a labeller's, by least squares on a few recorded episodes with both."""
    parts = [slice(int(clips.episode_offset[e]), int(clips.episode_offset[e + 1])) for e in episodes]
    read = np.concatenate([labeller.read(np.asarray(clips.frames[part])) for part in parts])
    real = np.concatenate([clips.action[part][:-1] for part in parts])
    matrix = np.linalg.lstsq(np.concatenate([real, np.ones((len(real), 1), np.float32)], axis=1), read, rcond=None)[0]
    return {
        "matrix": matrix.tolist(),
        "episodes": len(episodes),
        "action_names": clips.meta["action_names"],
        "action_low": clips.meta["action_low"],
        "action_high": clips.meta["action_high"],
    }


def label_dataset(
    dataset: str | Path, labeller: VideoLabeller, out: str | Path, camera: str | None = None, progress: bool = True
) -> tuple[int, dict[int, str]]:
    """Write the episodes of a dataset with the actions read off their frames.

    Nothing else is taken but the frames, in the size that the labeller was trained on, and the tasks.

    Returns:
        How many were written, and {episode left out: why}.

    Raises:
        FileExistsError: Where `out` is there.
        DatasetError: For what is wrong with the dataset.
    """
    new_folder(out)
    reader = open_reader(dataset)
    camera, size = reader.camera(camera), labeller.frame_size
    rejected: dict[int, str] = {}
    with LabelledWriter(out, size, labeller.about, reader.fps) as writer:
        for e in tqdm(range(len(reader)), desc="labelling", unit="episode", disable=not progress):
            frames = resize_area(reader.frames(camera, e), size)
            try:
                actions = labeller.label(frames)
            except Rejected as why:
                rejected[e] = str(why)
            except ValueError as error:
                rejected[e] = f"cannot be read: {error}"
            else:
                writer.add(frames, actions, reader.tasks[e])
    return len(reader) - len(rejected), rejected


def new_folder(out: str | Path) -> Path:
    """`out`, which is not there yet; FileExistsError where it is."""
    if Path(out, WRITING).exists():  # an older version wrote in place
        raise FileExistsError(
            f"{out} is unfinished, its writer was killed or still writes; remove it (rm -r {out}) "
            "and run the same again, or choose another --out"
        )
    check_free(Path(out))
    return Path(out)


class LabelledWriter:
    """Writes video with its actions as a LeRobotDataset v3.0 that trains and clones as a recording does.

    Use as a context manager; no episode, no folder. It is at `out` once it is whole: after an error or a kill nothing
    is there, after Ctrl-C what was made until then.

    Args:
        out: The folder.
        size: (height, width) of the frames.
        about: What the actions mean.
        fps: Frames a second.
        columns: More features of each step, {key: its names}.
    """

    def __init__(
        self,
        out: str | Path,
        size: tuple[int, int],
        about: ActionMeaning,
        fps: float,
        columns: dict[str, list[str]] | None = None,
    ) -> None:
        self.out, self.fps, self.held = Path(out), fps, contextlib.ExitStack()
        self.writer: LeRobotWriter | None = None
        names = about["action_names"]
        self.features: dict[str, Feature] = {
            CAMERA: video_feature(*size, fps),
            "action": feature("float32", len(names), names),
            **{key: feature("float32", len(names), names) for key, names in (columns or {}).items()},
        }
        self.notes = {key: value for key, value in about.items() if key in ActionMeaning.__annotations__}

    def add(self, frames: np.ndarray, actions: np.ndarray, task: str, **columns: np.ndarray) -> None:
        """One episode: frames uint8 [T, H, W, 3], actions [T-1, A], columns [T-1, size] of the same steps."""
        if self.writer is None:
            folder = self.held.enter_context(atomic_folder(self.out))
            self.writer = self.held.enter_context(
                LeRobotWriter(folder, self.fps, self.features, extra={"wm_gym": self.notes})
            )
        values = {"action": actions, **columns}
        last = {
            key: np.concatenate([value, np.zeros_like(value[:1])]).astype(np.float32) for key, value in values.items()
        }  # the last frame has no successor
        self.writer.add_episode(last, {CAMERA: frames}, task)

    def __enter__(self) -> LabelledWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is not None and isinstance(error, KeyboardInterrupt):
            print(
                f"interrupted: {self.out} will hold the {self.writer.num_episodes} episodes made until now",
                file=sys.stderr,
            )
            self.held.close()
        else:
            self.held.__exit__(kind, error, trace)
