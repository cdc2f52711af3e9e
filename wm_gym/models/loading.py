"""How is a network read from a folder that somebody else wrote? Ranges first, then the weights' head, then memory."""

import inspect
from pathlib import Path
from typing import Any

import torch

from wm_gym.common.accepted import shown
from wm_gym.common.reading import (
    FLAG,
    Rule,
    check,
    many,
    mapping,
    maybe,
    one_of,
    read_mapping,
    read_tensors,
    text,
    whole,
)
from wm_gym.models.inverse_dynamics import KINDS
from wm_gym.models.pretrained import OnBase
from wm_gym.models.saving import N, made_from

CONFIG_FILE, WEIGHTS_FILE = "config.json", "diffusion_pytorch_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
WIDTH, DIM = whole(1, 16384), whole(0, 4096)

SIZES: dict[str, Rule] = {
    # what goes in and comes out
    "latent_channels": whole(1, 256),
    "grid": many(whole(1, 1024), 2, 2),
    "context_frames": whole(1, 1024),
    "action_dim": DIM,
    "proprioception_dim": DIM,
    "vector_dim": whole(0, 16384),
    "pose_dim": DIM,
    "reward_dim": DIM,
    "action_angles": many(DIM),
    "proprioception_angles": many(DIM),
    "lags": many(whole(1, 1024)),
    "frame_size": many(whole(2, 4096), 2, 2),
    "feature_dim": WIDTH,
    "bins": whole(2, 1024),
    # how large
    "encoder_width": WIDTH,
    "decoder_width": WIDTH,
    "decoder_depth": whole(1, 64),
    "widths": many(WIDTH, 1, 12),
    "width": WIDTH,
    "layers": whole(1, 256),
    "heads": whole(1, 256),
    "hidden": WIDTH,
    "condition_dim": WIDTH,
    "pose_maps": whole(1, 1024),
    "pose_width": WIDTH,
    "lora_rank": whole(1, 1024),
    "words": whole(0, 512),
    "window": whole(2, 1024),
    # which way
    "pose_activation": one_of("relu", "silu"),
    "integrator": maybe(mapping()),
    "terminates": FLAG,
    "conditioning": text(100),
    "nullable": FLAG,
    "base": text(4096),
    "kind": one_of(*KINDS),
}
"""The ranges of every key of a network's config.json."""


def load_model(folder: Path, kinds: tuple[type[N], ...], whose: str = "world") -> N:
    """The network of a folder, one of these classes, as its config.json says, in float32.

    Nothing larger than its weights is allocated.

    Args:
        folder: Where.
        kinds: The classes that it may be of; the first where config.json names none.
        whose: The word for the folder around it in errors.

    Raises:
        FileNotFoundError: Where a file is missing.
        ValueError: Where one is damaged, holds a pickle, or does not fit the other.
    """
    config, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if not config.is_file():
        raise FileNotFoundError(f"{config} is missing; the {whose} folder is incomplete: download or train it again")
    if not weights.is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        if pickles:
            raise ValueError(
                f"{folder} holds the pickle {pickles[0]} where {WEIGHTS_FILE} belongs; pickles run code "
                "when loaded and are refused: convert it with safetensors first"
            )
        raise FileNotFoundError(f"{weights} is missing; the {whose} folder is incomplete: download or train it again")
    kind, settings = read_config(config, kinds)
    module: N
    try:
        if issubclass(kind, OnBase):  # its frozen part is another folder's
            module = made_from(kind, settings)
        else:
            with torch.device("meta"):
                shapes = {name: tuple(value.shape) for name, value in made_from(kind, settings).state_dict().items()}
            tensors = read_tensors(weights, shapes, config)
            module = made_from(kind, settings)
    except FileNotFoundError:
        raise
    except (ValueError, TypeError, RuntimeError, IndexError, ZeroDivisionError, KeyError, AttributeError) as error:
        if str(error).startswith(str(folder)):
            raise
        raise ValueError(f"{config} is no configuration of a {kind.__name__}: {error}") from error
    if issubclass(kind, OnBase):
        tensors = read_tensors(weights, {name: value.shape for name, value in module.state_dict().items()}, config)
    module.load_state_dict(tensors)
    return module.float()


def read_config(path: Path, kinds: tuple[type[N], ...]) -> tuple[type[N], dict[str, Any]]:
    """Class and settings of a network's config.json, every key in its range."""
    settings = read_mapping(path)
    names = {kind.__name__: kind for kind in kinds}
    name = settings.get("_class_name", kinds[0].__name__)
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{path} is no configuration of {' or '.join(names)}: _class_name is {shown(name)}")
    keys = [key for key in inspect.signature(names[name]).parameters if key not in ("kwargs", "args")]
    check(
        path,
        {key: value for key, value in settings.items() if not key.startswith("_")},
        {key: SIZES[key] for key in keys},
    )
    return names[name], settings
