"""Which judges are there, and which does `reward=...` mean?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from wm_gym.judges.base import AllOf, Judge, JudgeError, Scores

if TYPE_CHECKING:
    from wm_gym.worlds.world import World

__all__ = ["JUDGES", "AllOf", "Judge", "JudgeError", "Scores", "make_judge"]

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
    """The judge that `reward` names.

    Args:
        reward: "learned" (the world's own heads), "goal:IMAGE", "text:PROMPT", "clip:PROMPT", "vlm:MODEL", a `Judge`,
            or a list of these without "learned".
        world: The world whose frames are judged, for judges that need one.
        task: What is to be done, for judges that need to know.
        **kwargs: The judge's own options (reward_kwargs); of a list, each judge gets those that it takes.

    Returns:
        The judge, `AllOf` for a list, None for "learned".

    Raises:
        ValueError: For an unknown judge or option, naming what is known.
        FileNotFoundError: For a file or model that the judge needs.
        ImportError: For a package that the judge needs.
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
        made = [
            make_judge(one, world, task, **{key: kwargs[key] for key in kwargs if key in takes})
            for one, takes in zip(reward, accepted)
        ]
        return AllOf([judge for judge in made if judge is not None])
    if isinstance(reward, str) and reward != LEARNED:
        kind, argument = _kind(reward)
        takes = _accepted(kind)
        if unknown := sorted(set(kwargs) - set(takes)):
            raise ValueError(f"reward_kwargs {unknown} are unknown to reward={reward!r}, which takes {takes}")
        given = {key: value for key, value in {"world": world, "task": task}.items() if key in takes}
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


def _kind(reward: str) -> tuple[Callable[..., Judge], str]:
    word, colon, argument = reward.partition(":")
    if word not in JUDGES:
        raise ValueError(f"reward={reward!r} names no judge; choose {_known()}")
    if not argument.strip():
        raise ValueError(f"reward={reward!r} lacks what stands behind the colon; choose {_known()}")
    return resolve_name(JUDGES[word]), argument


def _accepted(kind: Callable[..., Judge]) -> list[str]:
    return list(inspect.signature(kind).parameters)[1:]


def _known() -> str:
    return ", ".join([repr(LEARNED), repr("novelty"), *(repr(f"{word}:...") for word in JUDGES)])
