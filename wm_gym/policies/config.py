"""What may an agent's config.yml say? One table, the spaces, and the shapes of the weights that it asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from wm_gym.common.reading import (
    AGAIN,
    FLAG,
    Rule,
    Table,
    check,
    many,
    mapping,
    maybe,
    one_of,
    read_mapping,
    real,
    shown,
    text,
    whole,
)
from wm_gym.policies.planning import RANGES as SEARCH
from wm_gym.policies.recipe import ENV_KEYS

CONFIG_FILE, FORMAT_VERSION, PLANNER = "config.yml", 1, "planner"
MOST_NUMBERS = 2**24  # of an observation
WIDTH = whole(1, 16384)
WIDTHS, SEED = many(WIDTH, 0, 64), whole(0, 2**63)

POLICY_KWARGS: Table = {
    "net_arch": Rule(
        f"{WIDTHS.expected}, or a mapping of such lists for pi, vf and qf",
        lambda value: (
            WIDTHS.holds(value)
            or isinstance(value, dict)
            and set(value) <= {"pi", "vf", "qf"}
            and all(map(WIDTHS.holds, value.values()))
        ),
    ),
    "features_extractor_class": text(100),
    "activation_fn": text(100),
    "log_std_init": real(-20, 20),
    "features_extractor_kwargs": {
        "channels": many(WIDTH, 3, 3),
        "temperature": real(0, 1e6, above=True),
        "features_dim": maybe(WIDTH),
        "state_scale": real(-1e6, 1e6),
        "normalized_image": FLAG,
        "cnn_output_dim": WIDTH,
    },
    "optimizer_kwargs": mapping(20),
    "n_critics": whole(1, 16),
    "clip_mean": real(0, 1e6),
    "ortho_init": FLAG,
    "use_sde": FLAG,
    "full_std": FLAG,
    "use_expln": FLAG,
    "squash_output": FLAG,
    "share_features_extractor": FLAG,
    "normalize_images": FLAG,
}
"""What Stable-Baselines3's policies may be made with."""

RANGES: Table = {
    "format_version": one_of(FORMAT_VERSION),
    "algo": text(100),
    "policy": text(100),
    "env_id": maybe(text()),
    "env_kwargs": maybe(mapping()),
    "learned": maybe(FLAG),
    "env_wrapper": maybe(text()),
    "frame_stack": maybe(whole(1, 64)),
    "seed": maybe(SEED),
    "hyperparameters": maybe(mapping()),
    "trained_with": maybe(mapping()),
    "policy_kwargs": POLICY_KWARGS,
    "observation_space": mapping(),
    "action_space": mapping(),
}
"""What of an agent's config.yml is acted on; the rest is only shown on its card."""

PLANNER_OPTIONS: Table = {
    "uncertainty_penalty": real(0, 1e9),
    "replan_every": whole(1, 1000),
    "sampling_steps": maybe(whole(1, 100)),
    "seed": SEED,
}
PLANNER_RANGES: Table = {
    **{key: RANGES[key] for key in ("format_version", "algo", "env_id", "env_kwargs", "learned")},
    **PLANNER_OPTIONS,
    "search": SEARCH,
}
"""The same of an agent that plans."""

HYPERPARAMETER: Rule = Rule(
    "true, false, a finite number, text such as lin_3e-4, or a list or mapping of these",
    lambda value: (
        value is None
        or isinstance(value, (bool, str, int))
        or isinstance(value, float)
        and math.isfinite(value)
        or isinstance(value, (list, dict))
        and all(map(HYPERPARAMETER.holds, value.values() if isinstance(value, dict) else value))
    ),
)


def read_config(folder: Path) -> dict[str, Any] | None:
    """config.yml of an agent's folder, every key that is acted on in its range; None where there is none."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return None
    config = read_mapping(path, finite=False)
    plans = config.get("algo") == PLANNER
    own = ("algo", "policy", "policy_kwargs", "observation_space", "action_space")
    table, needed = (PLANNER_RANGES, ("env_id", *PLANNER_OPTIONS, "search")) if plans else (RANGES, own)
    check(path, {key: value for key, value in config.items() if key in table}, table, needed)
    for key, value in (config.get("hyperparameters") or {}).items():
        if not HYPERPARAMETER.holds(value):
            raise ValueError(f"{path}: hyperparameters.{key} is {shown(value)}, expected {HYPERPARAMETER.expected}")
        if key not in ENV_KEYS and isinstance(value, str) and value.startswith("lin_") and not _number(value[4:]):
            raise ValueError(f"{path}: hyperparameters.{key} is {shown(value)}, expected lin_ and a number; {AGAIN}")
    return config


def _number(said: str) -> bool:
    try:
        return math.isfinite(float(said))
    except ValueError:
        return False


# --- spaces -----------------------------------------------------------------------------------------------------------

DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
BOUNDS = Rule(
    "a list of numbers",
    lambda value: (
        isinstance(value, list)
        and all(isinstance(one, (int, float)) and not isinstance(one, bool) and one == one for one in value)
    ),
)
BOX: Table = {
    "type": one_of("Box"),
    "shape": many(whole(0, 4096), 0, 8),
    "dtype": one_of(*DTYPES),
    "low": BOUNDS,
    "high": BOUNDS,
}
DISCRETE: Table = {"type": one_of("Discrete"), "n": whole(1, 65536)}
DICT: Table = {"type": one_of("Dict"), "spaces": mapping(64)}


def decode_space(config: dict[str, Any], path: str | Path = CONFIG_FILE, where: str = "space") -> gym.Space:
    """The space of `encode_space`; ValueError names what of it cannot be."""
    kind = config.get("type") if isinstance(config, dict) else None
    table = {"Box": BOX, "Discrete": DISCRETE, "Dict": DICT}.get(kind) if isinstance(kind, str) else None
    if table is None or where.count(".") > 4:
        raise ValueError(f"{path}: {where} is {shown(config)}, expected a Box, a Discrete or a Dict space; {AGAIN}")
    check(path, config, table, needed=tuple(table), where=where)
    if kind == "Dict":
        return gym.spaces.Dict(
            {key: decode_space(inside, path, f"{where}.{key}") for key, inside in config["spaces"].items()}
        )
    if kind == "Discrete":
        return gym.spaces.Discrete(config["n"])
    shape, dtype = tuple(config["shape"]), np.dtype(config["dtype"])
    size = math.prod(shape)
    if size > MOST_NUMBERS:
        raise ValueError(f"{path}: {where}.shape is {list(shape)}, expected at most {MOST_NUMBERS:,} numbers; {AGAIN}")
    try:
        for key in ("low", "high"):
            if len(config[key]) not in (1, size):
                raise ValueError(f"{key} has {len(config[key])} entries, expected 1 or {size:,}")
        low, high = (
            np.broadcast_to(np.array(v, dtype).reshape(-1 if len(v) == 1 else shape), shape)
            for v in (config["low"], config["high"])
        )
        if not (low <= high).all():
            raise ValueError("low is above high")
        return gym.spaces.Box(low, high, shape, dtype.type)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: {where} is no Box of {config['dtype']}: {error}; {AGAIN}") from error


# --- shapes -----------------------------------------------------------------------------------------------------------


class Unallocated(TorchFunctionMode):
    """In this block networks are built without memory, and stay so where their maker moves them to a device."""

    def __enter__(self) -> Unallocated:
        self._meta = torch.device("meta")
        self._meta.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._meta.__exit__(*error)

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda) and args[0].is_meta:
            return args[0]
        return function(*args, **(kwargs or {}))


def distinct_names(policy: torch.nn.Module) -> list[str]:
    """Names of the state dict, of a tensor that has several the first: extractors may be shared."""
    seen: dict[int, str] = {}
    for name, tensor in policy.state_dict(keep_vars=True).items():
        seen.setdefault(id(tensor) if tensor.numel() else 0, name)
    return list(seen.values())
