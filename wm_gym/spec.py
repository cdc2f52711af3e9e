"""What does a world promise: its spaces, units, control rate and horizon (`spec.yaml`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml

from wm_gym.files import write_text

FORMAT_VERSION = 1
SPEC_FILE = "spec.yaml"


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
    sampling_steps: int = 1
    """Denoising evaluations a frame."""
    guidance_scale: float = 1.0
    """Of the action over none (`wm_gym.sampling.denoiser`); other than 1 needs a world with a null condition."""
    context_frames: int = 2
    latent_shape: list[int] = field(default_factory=lambda: [4, 16, 16])
    """[C, h, w] of one frame's latent."""
    trained_on: str = ""
    format_version: int = FORMAT_VERSION

    def __post_init__(self):
        if self.format_version != FORMAT_VERSION:
            raise ValueError(
                f"world format_version is {self.format_version}, this wm-gym reads {FORMAT_VERSION}; "
                "retrain with `wm-gym train` or install the wm-gym that wrote the folder")
        if len(self.action_low) != len(self.action_high):
            raise ValueError(f"action_low has {len(self.action_low)} entries and action_high "
                             f"{len(self.action_high)}; expected the same number (none: trained on video alone)")
        if len(self.frame_size) != 2 or any(s % 4 or s <= 0 for s in self.frame_size):
            raise ValueError(f"frame_size is {self.frame_size}; expected [H, W], both divisible by 4")

    @property
    def action_dim(self) -> int:
        return len(self.action_low)

    @property
    def proprioception_dim(self) -> int:
        return len(self.proprioception_names)

    def save(self, folder: str | Path) -> None:
        """Write `spec.yaml` into a folder."""
        write_text(Path(folder, SPEC_FILE), yaml.safe_dump(asdict(self), sort_keys=False))

    @classmethod
    def load(cls, folder: str | Path) -> "WorldSpec":
        """Read `spec.yaml` from a world folder.

        Raises FileNotFoundError without the file and ValueError where it is no valid spec.
        """
        path = Path(folder, SPEC_FILE)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {folder} is no world folder; "
                                    "make one with `wm-gym train DATASET --out WORLD`")
        try:
            values = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not valid YAML: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds a {type(values).__name__}, expected a mapping of spec fields")
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"{path} has unknown fields {unknown}; known: {sorted(known)}")
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
