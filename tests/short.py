"""How short is a training that need not learn? A second or two, by `overrides` of the preset "tiny" or by flags."""

from __future__ import annotations


def short(updates: int = 4, **more) -> dict:
    """So many updates a stage, on small batches; more: further sizes of the preset."""
    stages = ("tokenizer", "pose", "dynamics", "heads", "uncertainty")
    batches = {"tokenizer_batch": 8, "dynamics_batch": 8, "uncertainty_rollouts": 4}
    return {f"{stage}_updates": updates for stage in stages} | batches | {"starts": 8} | more


def flags(**sizes) -> list[str]:
    """The same for the command line: --set NAME=VALUE ..."""
    return [word for name, value in sizes.items() for word in ("--set", f"{name}={value}")]
