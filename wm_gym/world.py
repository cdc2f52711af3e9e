"""What is on disk for one world, and how is it loaded? A diffusers-format folder with spec and starts beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from wm_gym.calibration import CALIBRATION_FILE, Calibration
from wm_gym.files import atomic_folder, copy_beside, digest, is_scrap, recover, unchanged
from wm_gym.models import (
    DiTDynamics,
    Dynamics,
    Heads,
    Tokenizer,
    Uncertainty,
    UNetDynamics,
    VideoDynamics,
    VideoTokenizer,
)
from wm_gym.models.loading import CONFIG_FILE, WEIGHTS_FILE, load_model
from wm_gym.spec import SPEC_FILE, WorldSpec
from wm_gym.starts import STARTS_FILE, StartBank

if TYPE_CHECKING:
    from wm_gym.training.presets import Preset

COMPONENTS = {"tokenizer": (Tokenizer, VideoTokenizer), "dynamics": (UNetDynamics, DiTDynamics, VideoDynamics),
              "heads": (Heads,), "uncertainty": (Uncertainty,)}
"""The classes that each sub-folder of a world may hold; its config.json says which."""


@dataclass
class World:
    """A video world model: spec, tokenizer, dynamics, heads, uncertainty and the bank of starts."""

    spec: WorldSpec
    tokenizer: Tokenizer
    dynamics: Dynamics
    heads: Heads
    uncertainty: Uncertainty
    starts: StartBank
    calibration: Calibration | None = None
    """None until `wm-gym calibrate` has measured these weights."""
    origin: Path | None = None
    """The folder that it was read from."""

    def __post_init__(self):
        for module in self.modules().values():
            module.eval().requires_grad_(False)

    def __getstate__(self) -> dict:
        """What a copy or a pickle carries: not the engines that `wm_gym.shared` keeps beside it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def modules(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in COMPONENTS}

    def at_rest(self) -> World:
        """Itself, every network on the CPU in torch's own memory layout, as it is saved."""
        for module in self.modules().values():
            module.to("cpu", memory_format=torch.contiguous_format)
        return self

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path) -> World:
        """Load a world from a folder, a catalogue name (`Reach-v0`) or a Hub id (`user/repository`).

        Raises FileNotFoundError where nothing is found or a file is missing, ValueError where a file is damaged,
        holds a pickle or disagrees with `spec.yaml`.
        """
        return unchanged(find_world(path_or_id), cls._load)

    @classmethod
    def _load(cls, folder: Path) -> World:
        spec = WorldSpec.load(folder)
        parts = {name: load_model(folder / name, kinds) for name, kinds in COMPONENTS.items()}
        world = cls(spec=spec, starts=StartBank.load(folder), calibration=Calibration.load(folder), origin=folder,
                    **parts)
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
            ("proprioception size of the starts", self.starts.proprioception.shape[-1], spec.proprioception_dim)]
        if spec.guidance_scale != 1 and self.dynamics.null is None:
            raise ValueError(f"{origin}: spec.yaml asks for a guidance_scale of {spec.guidance_scale}, and the "
                             "dynamics have no null condition; set it to 1, or train with --set condition_dropout=0.1")
        for what, says, has in facts:
            if says != has:
                raise ValueError(f"{origin}: spec.yaml and the weights disagree on {what}: {says} against {has}; "
                                 "restore the spec.yaml that was written with these weights, or train again")

    def not_finite(self, what: str) -> ValueError:
        """The error of a world that has begun to compute NaN or infinity."""
        whose = f"the world in {self.origin}" if self.origin else f"the world {self.spec.name!r}"
        weights = f"{' or '.join(COMPONENTS)}/{WEIGHTS_FILE}"
        return ValueError(f"{whose} gives {what} that are not finite: its weights ({weights}) are damaged or were "
                          "trained to no end; download or train it again")

    def save_pretrained(self, folder: str | Path, also: Callable[[Path], None] | None = None) -> Path:
        """Write the world folder (`atomic_folder`); returns its path.

        What a user put beside the weights (a card, a GIF) stays. also: writes more into it before it is in its place.
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
        (beside / "scheduler").mkdir()
        (beside / "scheduler" / "scheduler_config.json").write_text(json.dumps(
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0}, indent=2))
        (beside / "model_index.json").write_text(json.dumps(
            {"_class_name": "WorldPipeline", "_diffusers_version": "0.42.1",
             **{name: [type(module).__module__, type(module).__name__] for name, module in self.modules().items()},
             "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}, indent=2))
        self.spec.save(beside)
        self.starts.save(beside)
        if self.calibration:
            self.calibration.save(beside)

    @classmethod
    def on_base(cls, base: str | Path, spec: WorldSpec, sizes: Preset, prompt: str = "", seed: int = 0,
                starts: StartBank | None = None) -> World:
        """A world on a pretrained video pipeline (`wm_gym.models.pretrained`), its adapter not yet trained.

        FileNotFoundError where there is no such pipeline, ValueError where it cannot become a world of this spec.
        """
        from wm_gym.models.pretrained import on_base

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tokenizer, dynamics = on_base(
                base, prompt, frame_size=spec.frame_size, context_frames=sizes.context_frames,
                lora_rank=sizes.lora_rank, **cls._told(spec, sizes))
            return cls._around(tokenizer, dynamics, spec, sizes, seed, starts)

    @staticmethod
    def _told(spec: WorldSpec, sizes: Preset) -> dict:
        """What every dynamics network is told of the actions and the pose."""
        angles = {f"{what}_angles": tuple(i for i, name in enumerate(names) if is_angle(name)) for what, names in
                  (("action", spec.action_names), ("proprioception", spec.proprioception_names))}
        return {"action_dim": spec.action_dim, "proprioception_dim": spec.proprioception_dim, **angles,
                "condition_dim": sizes.condition_dim, "pose_width": sizes.pose_width, "pose_activation": "relu"}

    @classmethod
    def from_config(cls, spec: WorldSpec, preset: str | Preset = "tiny", seed: int = 0,
                    starts: StartBank | None = None) -> World:
        """A world with random weights in a preset's size, for tests and as the start of training.

        Without `starts`, the bank is 8 pictures of noise.
        """
        from wm_gym.training.presets import PRESETS

        sizes = PRESETS[preset] if isinstance(preset, str) else preset
        common = dict(latent_channels=sizes.latent_channels, grid=tuple(s // Tokenizer.factor for s in spec.frame_size),
                      context_frames=max(sizes.lags) if sizes.dynamics == "unet" else sizes.context_frames,
                      conditioning=sizes.conditioning, nullable=sizes.condition_dropout > 0, **cls._told(spec, sizes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tokenizer = Tokenizer(sizes.latent_channels, sizes.encoder_width, sizes.decoder_width,
                                  sizes.decoder_depth)
            if sizes.dynamics == "dit":
                dynamics = DiTDynamics(**common, width=sizes.dit_width, layers=sizes.dit_layers, heads=sizes.dit_heads)
            else:
                dynamics = UNetDynamics(**common, widths=sizes.widths, lags=sizes.lags)
            return cls._around(tokenizer, dynamics, spec, sizes, seed, starts)

    @classmethod
    def _around(cls, tokenizer: nn.Module, dynamics: Dynamics, spec: WorldSpec, sizes: Preset, seed: int,
                starts: StartBank | None) -> World:
        """Tokenizer and dynamics with new heads and uncertainty; without `starts`, the bank is 8 pictures of noise."""
        import numpy as np

        c = dynamics.config
        spec.latent_shape, spec.context_frames = [c.latent_channels, *c.grid], c.context_frames
        heads = Heads(c.latent_channels, c.grid, dynamics.vector_dim, dynamics.pose_code.out_dim,
                      len(spec.reward_components), sizes.head_width)
        uncertainty = Uncertainty(dynamics.feature_dim, c.latent_channels, c.grid)
        if starts is None:
            rng, (h, w) = np.random.default_rng(seed), spec.frame_size
            starts = StartBank(
                rng.integers(0, 255, (8, 1, h, w, 3), dtype=np.uint8), np.zeros((8, 0, spec.action_dim), np.float32),
                rng.uniform(-0.1, 0.1, (8, 1, spec.proprioception_dim)).astype(np.float32), np.arange(8),
                np.zeros(8, np.int64))
        return cls(spec, tokenizer, dynamics, heads, uncertainty, starts)


def is_angle(name: str) -> bool:
    """True where a component's name says that it is an angle that wraps at +-pi."""
    return name.rsplit(".", 1)[-1].lower() in {"roll", "pitch", "yaw"}


def find_world(path_or_id: str | Path) -> Path:
    """The folder of a world: a path, a catalogue name, or a Hub id (downloaded, safetensors only)."""
    from wm_gym.registration import catalogue_folders

    folder = recover(path_or_id)
    if folder.is_dir():
        return folder
    shipped = catalogue_folders()
    name = str(path_or_id).removeprefix("wm_gym/")
    if name in shipped:
        return shipped[name]
    text = str(path_or_id)
    if text.count("/") == 1 and not text.startswith((".", "~", "/")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(text, allow_patterns=["*.json", "*.yaml", "*.safetensors", "*.md"]))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            raise FileNotFoundError(f"world {text!r} is neither a folder, nor shipped ({sorted(shipped)}), and the "
                                    f"Hub did not give it: {error}") from error
    raise FileNotFoundError(f"world {text!r} is neither a folder nor one of the shipped worlds {sorted(shipped)}; "
                            "train one with `wm-gym train DATASET --out WORLD`")


def digest_of_world(path_or_id: str | Path) -> str:
    """What tells a world's weights, starts and spec from others of the same name."""
    folder = find_world(path_or_id)
    return digest([folder / SPEC_FILE, *(path for path in world_files(folder) if path.suffix == ".safetensors"
                                         and path.is_file())])


def world_files(folder: Path) -> list[Path]:
    """Where the files of a world are, in order, whether they are there or not; no other file is looked at.

    FileNotFoundError where the folder is no world's.
    """
    if not (folder / SPEC_FILE).is_file():
        raise FileNotFoundError(f"{folder / SPEC_FILE} is missing: {folder} is no world folder; "
                                "make one with `wm-gym train DATASET --out WORLD`")
    parts = [folder / name / file for name in COMPONENTS for file in (CONFIG_FILE, WEIGHTS_FILE)]
    return sorted([folder / SPEC_FILE, folder / STARTS_FILE, folder / CALIBRATION_FILE, *parts])
