"""What should a reader of a world folder know first? Its card, written from measured numbers."""

from pathlib import Path
from typing import Any, NamedTuple

from wm_gym.common.files import write_text
from wm_gym.training.check import Check
from wm_gym.worlds.spec import WorldSpec

FEW_EPISODES = 100


class Measured(NamedTuple):
    """What is known of a training when its card is written."""

    numbers: dict[str, float]
    """Of the training's last report; {} for a world that draws nothing."""
    check: Check | None
    """None for a world without actions."""
    episodes: int
    """How many it saw."""
    seconds: dict[str, float]
    """That each stage took."""


def write_card(folder: Path, spec: WorldSpec, settings: dict[str, Any], measured: Measured) -> None:
    """Write README.md in the Hub's card format; an earlier one becomes README.old.md."""
    numbers, check, episodes, seconds = measured
    few = (
        ""
        if episodes >= FEW_EPISODES
        else (
            f"\n> Trained on only {episodes} episodes: this shows that the path from such data to an environment "
            "works, not that the world generalises.\n"
        )
    )
    took = ", ".join(f"{stage} {spent / 60:.1f}" for stage, spent in seconds.items())
    chosen = ", ".join(f"{key} {value}" for key, value in settings.items())
    card = f"""---
library_name: wm-gym
tags: [world-model, robotics, gymnasium]
---
# {" ".join(spec.name.split())}

{spec.task_description or "A learned world."}
{few}
```python
import gymnasium as gym, wm_gym
env = gym.make("wm_gym/World-v0", world="PATH_OR_HUB_ID_OF_THIS_FOLDER")
```

- Frames {spec.frame_size[0]} x {spec.frame_size[1]}, {spec.fps:g} Hz, horizon {spec.horizon} steps; \
{spec.action_dim} actions ({", ".join(spec.action_names)}), {spec.proprioception_dim} proprioceptive values.
- Physics twin: {spec.twin or "none"}. Trained on {spec.trained_on}; camera {spec.camera}.
- Settings: {chosen}. Optimisation took {sum(seconds.values()) / 60:.1f} minutes ({took}).

## Measured by the training, on held-out episodes
{_checked(check)}{_reported(numbers)}
What its uncertainty guarantees is in `calibration.json`, once `wm-gym calibrate` has measured it.
"""
    path = folder / "README.md"
    if path.exists() and path.read_text() != card:  # its numbers are of the weights that were here before
        path.replace(path.with_name("README.old.md"))
    write_text(path, card)


def _checked(check: Check | None) -> str:
    """What `check_world` found, as a table under its verdict."""
    if check is None:
        return ""
    rows = [
        f"| {one.name} | {one.value:.3g} | {'' if one.low is None else f'{one.low:.3g} to {one.high:.3g}'} |"
        for one in check.lines
    ]
    table = "\n".join(["| what | value | 95 % interval |", "|---|---|---|", *rows])
    todo = "".join(f"- {one}\n" for one in check.todo)
    return f"""
**{check.verdict[:1].upper()}{check.verdict[1:]}.** Closed loop; `lost` is by how much a control is worse than the true
actions: `still` (nothing moves), `mirrored` and `shuffled` actions.

{todo}
{table}
"""


def _reported(numbers: dict[str, float]) -> str:
    """The last report of a world that draws."""
    if not numbers:
        return ""
    rows = "\n".join(f"| {name} | {value:.2f} |" for name, value in numbers.items())
    return f"""
Closed loop, same actions as the recording; `@t` is the step. `frozen` repeats the first frame; `ceiling` is the
tokenizer's round trip; `mirrored` is the PSNR lost when the actions are mirrored; `area` and `motion` are
generated / true (1 is right; area < 0.8: objects fade).

| what | value |
|---|---|
{rows}
"""
