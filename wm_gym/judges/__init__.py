"""Which judges are there, and which does `reward=...` mean?

"learned" (the world's own heads), "goal:IMAGE", "text:PROMPT", "clip:PROMPT", "vlm:MODEL", a `Judge`, or a list of
these.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wm_gym.judges.base import AllOf, Judge, JudgeError, Verdict

if TYPE_CHECKING:
    from wm_gym.worlds.world import World

__all__ = ["JUDGES", "AllOf", "Judge", "JudgeError", "Verdict", "make_judge"]

LEARNED = "learned"

JUDGES = {
    "goal": "wm_gym.judges.goal:GoalJudge",
    "text": "wm_gym.judges.text:TextJudge",
    "clip": "wm_gym.judges.clip:ClipJudge",
    "vlm": "wm_gym.judges.vlm:VLMJudge",
}
"""Word before the colon -> "module:class". The class is called with what stands behind the colon and, as far as it
takes them, `world` and `task` (the world's, or the environment's description), and with the reward_kwargs."""


def make_judge(
    reward: str | Judge | Sequence[str | Judge], world: World | None = None, task: str = "", **kwargs: Any
) -> Judge | None:
    """The judge that `reward` names; None for "learned", the heads of a world.

    kwargs (reward_kwargs) go to the judge's class; of a list, to each that takes them. Raises ValueError naming what
    is known for an unknown judge or argument, FileNotFoundError or ImportError for what a judge needs and lacks.
    """
    if isinstance(reward, (list, tuple)):
        if LEARNED in reward:
            raise ValueError(
                f"reward={list(reward)!r}: {LEARNED!r} is the world's own head, which no other judge can "
                "stand beside; take it alone, or leave it out"
            )
        accepted = [_accepted(_kind(one)[0]) if isinstance(one, str) else [] for one in reward]
        if unknown := sorted(set(kwargs).difference(*accepted)):
            raise ValueError(f"reward_kwargs {unknown} are unknown to every judge of {list(reward)!r}")
        return AllOf(
            [
                make_judge(one, world, task, **{key: kwargs[key] for key in kwargs if key in takes})
                for one, takes in zip(reward, accepted)
            ]
        )
    if isinstance(reward, str) and reward != LEARNED:
        kind, argument = _kind(reward)
        accepted = _accepted(kind)
        if unknown := sorted(set(kwargs) - set(accepted)):
            raise ValueError(f"reward_kwargs {unknown} are unknown to reward={reward!r}, which takes {accepted}")
        given = {key: value for key, value in {"world": world, "task": task}.items() if key in accepted}
        return kind(argument, **{**given, **kwargs})
    if kwargs:
        raise ValueError(
            f"reward_kwargs {sorted(kwargs)} need a judge that is named, e.g. reward='goal:goal.png'; "
            f"reward is {reward!r}"
        )
    if reward == LEARNED:
        return None
    if not isinstance(reward, Judge):
        raise ValueError(f"reward is {reward!r}; expected {_known()}, a wm_gym.judges.Judge or a list of these")
    return reward


def _kind(reward: str) -> tuple[type[Judge], str]:
    word, colon, argument = reward.partition(":")
    if word not in JUDGES:
        raise ValueError(f"reward={reward!r} names no judge; choose {_known()}")
    if not argument.strip():
        raise ValueError(f"reward={reward!r} lacks what stands behind the colon; choose {_known()}")
    module, name = JUDGES[word].split(":")
    return getattr(importlib.import_module(module), name), argument


def _accepted(kind: type[Judge]) -> list[str]:
    return list(inspect.signature(kind).parameters)[1:]


def _known() -> str:
    return ", ".join([repr(LEARNED), *(repr(f"{word}:...") for word in JUDGES)])
