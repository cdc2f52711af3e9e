"""What is on disk for one world, and how is it loaded? A diffusers-format folder with spec and starts beside it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from wm_gym.common.files import atomic_folder, copy_beside, digest, is_scrap, unchanged, write_json
from wm_gym.models import (
    DiTDynamics,
    Dynamics,
    Heads,
    StateHeads,
    Tokenizer,
    Uncertainty,
    UNetDynamics,
    VideoDynamics,
    VideoTokenizer,
)
from wm_gym.models.loading import CONFIG_FILE, WEIGHTS_FILE, load_model
from wm_gym.models.saving import Network
from wm_gym.worlds.calibration import CALIBRATION_FILE, Calibration
from wm_gym.worlds.catalogue import find_world
from wm_gym.worlds.spec import SPEC_FILE, WorldSpec, spec_path
from wm_gym.worlds.starts import STARTS_FILE, StartBank

COMPONENTS: dict[str, tuple[type[Network], ...]] = {
    "tokenizer": (Tokenizer, VideoTokenizer),
    "dynamics": (UNetDynamics, DiTDynamics, VideoDynamics),
    "heads": (Heads, StateHeads),
    "uncertainty": (Uncertainty,),
}
"""The classes that each sub-folder of a world may hold; its config.json says which."""


@dataclass
class World:
    """A video world model: spec, tokenizer, dynamics, heads, uncertainty and the bank of starts."""

    spec: WorldSpec
    tokenizer: Tokenizer | VideoTokenizer
    dynamics: Dynamics
    heads: Heads | StateHeads
    uncertainty: Uncertainty
    starts: StartBank
    calibration: Calibration | None = None
    """None until `wm-gym calibrate` has measured these weights."""
    origin: Path | None = None
    """The folder that it was read from."""
    engines: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The engines that `wm_gym.engine.shared` keeps of it in this process."""

    def __post_init__(self) -> None:
        for module in self.modules().values():
            module.eval().requires_grad_(False)

    def __getstate__(self) -> dict:
        """What a copy or a pickle carries: all but the engines."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"engines": {}}

    def modules(self) -> dict[str, Network]:
        """Its networks by their sub-folders' names."""
        return {name: getattr(self, name) for name in COMPONENTS}

    def at_rest(self) -> World:
        """Itself, every network on the CPU in torch's own memory layout, as it is saved."""
        module: Any
        for module in self.modules().values():
            module.to("cpu", memory_format=torch.contiguous_format)
        return self

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path) -> World:
        """Load a world from a folder, a catalogue name (`Reach-v0`) or a Hub id (`user/repository`).

        Raises:
            FileNotFoundError: Where nothing is found or a file is missing.
            ValueError: Where a file is damaged, holds a pickle or disagrees with `spec.yaml`.
        """
        return unchanged(find_world(path_or_id), cls._load)

    @classmethod
    def _load(cls, folder: Path) -> World:
        spec = WorldSpec.load(folder)
        parts: dict[str, Any] = {name: load_model(folder / name, kinds) for name, kinds in COMPONENTS.items()}
        world = cls(
            spec=spec, starts=StartBank.load(folder), calibration=Calibration.load(folder), origin=folder, **parts
        )
        world.check(folder)
        return world

    def check(self, origin: str | Path = "this world") -> None:
        """Raise ValueError where spec, networks and starts disagree."""
        spec, dynamics = self.spec, self.dynamics.config
        grid = [s // self.tokenizer.factor for s in spec.frame_size]
        latents = [dynamics.latent_channels, *dynamics.grid]
        heads, uncertainty = self.heads.config, self.uncertainty.config
        facts = [
            ("action_low", spec.action_dim, dynamics.action_dim),
            ("proprioception_names", spec.proprioception_dim, dynamics.proprioception_dim),
            ("context_frames", spec.context_frames, dynamics.context_frames),
            ("frame_size", grid, list(dynamics.grid)),
            ("latent_shape", list(spec.latent_shape), latents),
            ("reward_components", len(spec.reward_components), heads.reward_dim),
            ("latent channels of the tokenizer", self.tokenizer.config.latent_channels, dynamics.latent_channels),
            ("latents that the heads read", [heads.latent_channels, *heads.grid], latents),
            ("latents that the uncertainty reads", [uncertainty.latent_channels, *uncertainty.grid], latents),
            ("vector that the heads read", heads.vector_dim, self.dynamics.vector_dim),
            ("pose that the heads read", heads.pose_dim, self.dynamics.pose_code.out_dim),
            ("features that the uncertainty reads", self.dynamics.feature_dim, uncertainty.feature_dim),
            ("frame_size of the starts", list(self.starts.frames.shape[2:4]), list(spec.frame_size)),
            ("action size of the starts", self.starts.actions.shape[-1], spec.action_dim),
            ("proprioception size of the starts", self.starts.proprioception.shape[-1], spec.proprioception_dim),
        ]
        if spec.guidance_scale != 1 and self.dynamics.null is None:
            raise ValueError(
                f"{origin}: spec.yaml asks for a guidance_scale of {spec.guidance_scale}, and the "
                "dynamics have no null condition; set it to 1, or train with --set condition_dropout=0.1"
            )
        for what, says, has in facts:
            if says != has:
                raise ValueError(
                    f"{origin}: spec.yaml and the weights disagree on {what}: {says} against {has}; "
                    "restore the spec.yaml that was written with these weights, or train again"
                )

    def not_finite(self, what: str) -> ValueError:
        """The error of a world that has begun to compute NaN or infinity."""
        whose = f"the world in {self.origin}" if self.origin else f"the world {self.spec.name!r}"
        weights = f"{' or '.join(COMPONENTS)}/{WEIGHTS_FILE}"
        return ValueError(
            f"{whose} gives {what} that are not finite: its weights ({weights}) are damaged or were "
            "trained to no end; download or train it again"
        )

    def save_pretrained(self, folder: str | Path, also: Callable[[Path], None] | None = None) -> Path:
        """Write the world folder (`atomic_folder`); what a user put beside the weights (a card, a GIF) stays.

        Args:
            folder: Where.
            also: Writes more into the folder that it is given, before that is in its place.

        Returns:
            The folder's path.
        """
        folder = Path(folder)
        with atomic_folder(folder) as beside:
            self._write(beside)
            for extra in folder.iterdir() if folder.exists() else ():
                if extra.name != CALIBRATION_FILE and not is_scrap(extra) and not (beside / extra.name).exists():
                    copy_beside(extra, beside / extra.name)
            if also:
                also(beside)
        return folder

    def _write(self, beside: Path) -> None:
        for name, module in self.modules().items():
            module.save_pretrained(beside / name, safe_serialization=True)
        scheduler = "FlowMatchEulerDiscreteScheduler"
        settings = {"_class_name": scheduler, "num_train_timesteps": 1000, "shift": 1.0}
        write_json(beside / "scheduler" / "scheduler_config.json", settings, indent=2)
        index: dict[str, Any] = {"_class_name": "WorldPipeline", "_diffusers_version": "0.42.1"}
        index |= {name: [type(part).__module__, type(part).__name__] for name, part in self.modules().items()}
        write_json(beside / "model_index.json", index | {"scheduler": ["diffusers", scheduler]}, indent=2)
        self.spec.save(beside)
        self.starts.save(beside)
        if self.calibration:
            self.calibration.save(beside)


def is_angle(name: str) -> bool:
    """True where a component's name says that it is an angle that wraps at +-pi."""
    return name.rsplit(".", 1)[-1].lower() in {"roll", "pitch", "yaw"}


def digest_of_world(path_or_id: str | Path) -> str:
    """The digest of a world's weights, starts and spec."""
    folder = find_world(path_or_id)
    tensors = [path for path in world_files(folder) if path.suffix == ".safetensors" and path.is_file()]
    return digest([folder / SPEC_FILE, *tensors])


def world_files(folder: Path) -> list[Path]:
    """The paths of a world's files, in order, whether they are there or not; no other file is looked at.

    Raises:
        FileNotFoundError: Where the folder is no world's.
    """
    parts = [folder / name / file for name in COMPONENTS for file in (CONFIG_FILE, WEIGHTS_FILE)]
    return sorted([spec_path(folder), folder / STARTS_FILE, folder / CALIBRATION_FILE, *parts])
