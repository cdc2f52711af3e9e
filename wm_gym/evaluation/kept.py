"""How are kept results read, those of earlier versions too? Old names become today's here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULES = {
    "wm_gym.evaluation.suite": "wm_gym.evaluation.suite.suite",
    "wm_gym.evaluation.policies": "wm_gym.evaluation.ranking.policies",
}
FUNCTIONS = {
    "wm_gym.evaluation.suite.suite:answer": "wm_gym.evaluation.suite.suite:measure",
    "wm_gym.evaluation.ranking.policies:measure_nudged": "wm_gym.evaluation.ranking.policies:measure_perturbed",
}
KEYS = {
    "question": "task",
    "promised_episodes": "guarantee_episodes",
    "reader_episodes": "decoder_episodes",
    "reader_updates": "decoder_updates",
    "deaf": "zero_action",
    "turned": "mirrored",
    "nudged": "perturbed",
    "optimist": "always_success",
    "verdicts": "judgements",
}


def read_kept(path: Path) -> Any:
    """The JSON of a file, in today's names.

    Raises:
        ValueError: For what is no JSON.
    """
    value = renamed(json.loads(path.read_text(encoding="utf-8")))
    if is_of_job(value):
        value["function"] = function_now(value["function"])
    return value


def is_of_job(value: Any) -> bool:
    """Whether it is what `run_jobs` keeps: {"function", "arguments", "result"}."""
    return isinstance(value, dict) and set(value) == {"function", "arguments", "result"}


def function_now(function: str) -> str:
    """The "module:name" that a function has today, of the one that it had when a file was kept."""
    module, _, name = str(function).partition(":")
    function = f"{MODULES.get(module, module)}:{name}"
    return FUNCTIONS.get(function, function)


def renamed(value: Any) -> Any:
    """A JSON value whose keys have today's names."""
    if isinstance(value, list):
        return [renamed(each) for each in value]
    if isinstance(value, dict):
        return {KEYS.get(key, key): renamed(each) for key, each in value.items()}
    return value


def upgraded(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """A measurement's result in the layout of its dataclass, also where an earlier version wrote it."""
    return UPGRADES[name](value) if name in UPGRADES and set(value) != {"undefined"} else value


def _nested(value: dict[str, Any], own: tuple[str, ...], key: str) -> dict[str, Any]:
    """With what is not among a record's own fields under a key of its own."""
    if key in value:
        return value
    return {name: value[name] for name in own if name in value} | {
        key: {name: each for name, each in value.items() if name not in own}
    }


def _fidelity(value: dict[str, Any]) -> dict[str, Any]:
    if "looks" in value:
        return value
    looks = {key: each for key, each in value.items() if key.startswith("at_")}
    distances = {key.removeprefix("fvd_"): each for key, each in value.items() if key.startswith("fvd_")}
    return {
        "episodes": value["episodes"],
        "horizons": value["horizons"],
        "looks": {"undefined": value["undefined"]} if "undefined" in value else looks,
        "fvd": {
            key: each if "undefined" in each else _nested(each, ("n", "frames", "features"), "of")
            for key, each in distances.items()
        },
    }


def _drift(value: dict[str, Any]) -> dict[str, Any]:
    if "at" in value:
        return value
    short = {key: key.removeprefix("at_") for key in value["counted"]}
    return {key: each for key, each in value.items() if key not in short} | {
        "at": {short[key]: value[key] for key in short},
        "counted": {short[key]: each for key, each in value["counted"].items()},
    }


def _control(value: dict[str, Any]) -> dict[str, Any]:
    value = dict(value)
    if value.get("directions"):
        value["directions"] = {"carried_out_by_physics": None} | _nested(
            value["directions"], ("carried_out_by_physics",), "of"
        )
    if set(value.get("distractor") or ("undefined",)) != {"undefined"}:
        value["distractor"] = _nested(value["distractor"], ("counted",), "of")
    if value.get("no_op"):
        value["no_op"] = {name: _rest(each) for name, each in value["no_op"].items()}
    return value


def _rest(value: dict[str, Any]) -> dict[str, Any]:
    if "frames_cm" in value:
        return value
    return {key: each for key, each in value.items() if key not in ("frames", "proprioception")} | {
        f"{source}_cm": {key.removesuffix("_cm"): each for key, each in value[source].items()}
        if source in value
        else None
        for source in ("frames", "proprioception")
    }


def _violations(value: dict[str, Any]) -> dict[str, Any]:
    worst = [{"kind" if key == "class" else key: each for key, each in one.items()} for one in value.get("worst") or ()]
    return value | {"worst": worst}


UPGRADES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "fidelity": _fidelity,
    "drift": _drift,
    "agent_drift": _drift,
    "control": _control,
    "physics_iq": lambda value: _nested(value, ("episodes", "other_take"), "of"),
    "violations": _violations,
}
