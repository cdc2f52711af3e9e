"""How are kept results read, those of earlier versions too? Old names of functions and keys become today's here alone."""

from __future__ import annotations

import json
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
