"""What should a reader of a world folder know first? Its card, written from measured numbers."""

from pathlib import Path
from typing import Any

from wm_gym.common.files import write_text
from wm_gym.worlds.spec import WorldSpec

FEW_EPISODES = 100


def write_card(
    folder: Path,
    spec: WorldSpec,
    settings: dict[str, Any],
    numbers: dict[str, float],
    episodes: int,
    seconds: dict[str, float],
) -> None:
    """Write README.md in the Hub's card format; an earlier one becomes README.old.md.

    numbers: of the training's last report; episodes: how many it saw; seconds: that each stage took.
    """
    rows = "\n".join(f"| {name} | {value:.2f} |" for name, value in numbers.items())
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

Closed loop, same actions as the recording; `@t` is the step. `frozen` repeats the first frame; `ceiling` is the
tokenizer's round trip; `mirrored` is the PSNR lost when the actions are mirrored; `area` and `motion` are
generated / true (1 is right; area < 0.8: objects fade).

| what | value |
|---|---|
{rows}

What its uncertainty guarantees is in `calibration.json`, once `wm-gym calibrate` has measured it.
"""
    path = folder / "README.md"
    if path.exists() and path.read_text() != card:  # its numbers are of the weights that were here before
        path.replace(path.with_name("README.old.md"))
    write_text(path, card)
