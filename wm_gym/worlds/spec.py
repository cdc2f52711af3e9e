"""What is a world's contract? Its spaces, units, control rate and horizon (`spec.yaml`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wm_gym.common.codec import SpaceCodec
from wm_gym.common.files import write_text
from wm_gym.common.reading import FLAG, check, many, mapping, maybe, one_of, read_mapping, real, text, whole
from wm_gym.common.space_data import from_data

FORMAT_VERSION = 1
SPEC_FILE = "spec.yaml"
LARGEST = 1e9  # of an action
REPAIR = "mend it, copy spec.yaml back, or train again: wm-gym train DATASET --out WORLD"
NAMES = many(text(200))
RANGES = {
    "name": text(200),
    "frame_size": many(whole(4, 4096, step=4), 2, 2),
    "action_low": many(real(-LARGEST, LARGEST)),
    "action_high": many(real(-LARGEST, LARGEST)),
    "action_names": NAMES,
    "action_unit": text(),
    "proprioception_names": NAMES,
    "proprioception_unit": text(),
    "reward_components": NAMES,
    "fps": real(0, 1000, above=True),
    "horizon": whole(1, 10**9),
    "camera": text(),
    "twin": maybe(text()),
    "task_description": text(100_000),
    "success_threshold": real(-1e9, 1e9),
    "termination_threshold": real(-1e9, 1e9),
    "observation_space": maybe(mapping()),
    "action_space": maybe(mapping()),
    "success_ends": FLAG,
    "draws": FLAG,
    "sampling_steps": whole(1, 100),
    "guidance_scale": real(-100, 100),
    "context_frames": whole(1, 1024),
    "latent_shape": many(whole(1, 1024), 3, 3),
    "trained_on": text(100_000),
    "format_version": one_of(FORMAT_VERSION),
}
"""What each field of `spec.yaml` may be."""


@dataclass
class WorldSpec:
    """The contract of one world; every array that enters or leaves its environment follows it."""

    name: str
    """Catalogue name, e.g. `Reach-v0`."""
    frame_size: list[int]
    """[H, W] of the frames in pixels; both divisible by 4."""
    action_low: list[float]
    action_high: list[float]
    action_names: list[str] = field(default_factory=list)
    action_unit: str = ""
    proprioception_names: list[str] = field(default_factory=list)
    proprioception_unit: str = ""
    reward_components: list[str] = field(default_factory=lambda: ["task"])
    """Names of the reward terms; the reward is their sum."""
    fps: float = 10.0
    """Control rate in Hz; one step advances 1 / fps seconds."""
    horizon: int = 50
    """Steps after which an episode is truncated."""
    camera: str = ""
    twin: str | None = None
    """Environment id of the physics twin, where there is one."""
    task_description: str = ""
    success_threshold: float = 0.5
    """An episode terminates when the predicted success probability exceeds this; > 1 means never."""
    termination_threshold: float = 2.0
    """The task has ended when the predicted probability of its end exceeds this; > 1 means never."""
    observation_space: dict[str, Any] | None = None
    """The space of the environment that it was recorded in, as `wm_gym.common.space_data` writes it; None where nobody
    said. Where it holds numbers, they are the proprioception."""
    action_space: dict[str, Any] | None = None
    """Likewise of its actions, which a model takes as the numbers of a `SpaceCodec`."""
    success_ends: bool = True
    """Success ends an episode; False where the source ends its tasks itself."""
    draws: bool = True
    """False where no picture was learned: such a world has observation="source" alone."""
    sampling_steps: int = 1
    """Denoising evaluations a frame."""
    guidance_scale: float = 1.0
    """Of the action over none (`wm_gym.models.sampling.denoiser`); other than 1 needs a world with a null condition."""
    context_frames: int = 2
    latent_shape: list[int] = field(default_factory=lambda: [4, 16, 16])
    """[C, h, w] of one frame's latent."""
    trained_on: str = ""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _check_version("this world", self.format_version)
        if len(self.action_low) != len(self.action_high):
            raise ValueError(
                f"action_low has {len(self.action_low)} entries and action_high {len(self.action_high)}; expected the "
                f"same number (none: trained on video alone); {REPAIR}"
            )
        if len(self.frame_size) != 2 or any(s % 4 or s <= 0 for s in self.frame_size):
            raise ValueError(f"frame_size is {self.frame_size}; expected [H, W], both divisible by 4; {REPAIR}")
        if any(low > high for low, high in zip(self.action_low, self.action_high)):
            raise ValueError(
                f"action_low is {self.action_low} and action_high {self.action_high}; expected no high to be lower "
                f"than its low; {REPAIR}"
            )
        if len(set(self.reward_components)) < len(self.reward_components):
            raise ValueError(
                f"reward_components is {self.reward_components}; expected a name of its own for each; {REPAIR}"
            )

        for what in ("observation", "action"):
            codec, dim = self.codec(what), self.action_dim if what == "action" else self.proprioception_dim
            if codec is not None and codec.size != dim and (what == "action" or codec.size):
                raise ValueError(f"{what}_space has {codec.size} numbers and the {what} {dim}; {REPAIR}")

    def codec(self, what: str) -> SpaceCodec | None:
        """How an "observation" or "action" of the source becomes numbers; None where nobody said of which space."""
        data = self.observation_space if what == "observation" else self.action_space
        space = None if data is None else from_data(data, f"{what}_space")
        return None if space is None else SpaceCodec(space, what == "observation", f"{what}_space")

    def observed(self, asked: str) -> str:
        """What is observed where `asked` is ("auto" or a mode): the source's own where it is known and not stacked."""
        seen = self.codec("observation")
        stacked = seen is not None and seen.layout is not None and seen.layout.frames > 1
        return asked if asked != "auto" else "pixels" if seen is None or stacked else "source"

    @property
    def has_state(self) -> bool:
        """Whether the proprioception is all that the source's observation holds, so that no picture is needed."""
        codec = self.codec("observation")
        return codec is not None and codec.layout is None and codec.size > 0

    @property
    def action_dim(self) -> int:
        """The number of actions."""
        return len(self.action_low)

    @property
    def proprioception_dim(self) -> int:
        """The number of proprioceptive values."""
        return len(self.proprioception_names)

    def check(self, whose: str | Path = "the spec") -> None:
        """Raise ValueError where a field is out of its range."""
        check(whose, asdict(self), RANGES)

    def save(self, folder: str | Path) -> None:
        """Write `spec.yaml` into a folder; ValueError for a spec that could not be loaded again."""
        self.check(Path(folder, SPEC_FILE))
        write_text(Path(folder, SPEC_FILE), yaml.safe_dump(asdict(self), sort_keys=False))

    @classmethod
    def load(cls, folder: str | Path) -> WorldSpec:
        """Read `spec.yaml` from a world folder.

        Raises:
            FileNotFoundError: Without the file.
            ValueError: Where it is no valid spec.
        """
        path = spec_path(folder)
        values = read_mapping(path)
        if "format_version" in values:  # first: it says why others are unknown
            _check_version(path, values["format_version"])
        check(path, values, RANGES, needed=("name", "frame_size", "action_low", "action_high"))
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error


def spec_path(folder: str | Path) -> Path:
    """The path of a world's `spec.yaml`; FileNotFoundError where the folder is no world's."""
    path = Path(folder, SPEC_FILE)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: {folder} is no world folder; make one with `wm-gym train DATASET --out WORLD`"
        )
    return path


def _check_version(whose: str | Path, version: Any) -> None:
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{whose}: the world's format_version is {version!r}, this wm-gym reads {FORMAT_VERSION}; "
            "retrain with `wm-gym train` or install the wm-gym that wrote the folder"
        )
