"""Who acts in the episodes of a recording? One policy, or several with a share of the episodes each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MIX = {"expert": 0.2, "noisy": 0.3, "random": 0.3, "near-miss": 0.2}  # shares of --policy mix
POLICIES = (*MIX, "mix")
AGENT, ZIP = "agent:", ".zip"  # a trained agent: agent:FOLDER, or Stable-Baselines3's FILE.zip
EXAMPLE = f"random:0.3,{AGENT}FOLDER:0.7"


@dataclass(frozen=True)
class Policies:
    """Policies as somebody typed them, and the share of the episodes in which each acts."""

    names: tuple[str, ...]
    shares: tuple[float, ...]
    """They sum to 1."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The policies of `NAME`, or of `NAME:SHARE,NAME:SHARE,...`.

        A name is one of `POLICIES`, agent:FOLDER, a Stable-Baselines3 FILE.zip, or module:name of a function or class.

        Raises:
            ValueError: For what is none of these; it says what may be typed.
        """
        if Path(text.removeprefix(AGENT)).exists():
            parts: list[tuple[str, float | None]] = [(text, None)]
        else:
            parts = [_with_share(part) for part in text.split(",")]
        names, shares = tuple(name for name, _ in parts), [share for _, share in parts]
        if len(parts) > 1 and (None in shares or "mix" in names):
            raise ValueError(f"policy {text!r}: each policy of a mix is one, with its share, as in {EXAMPLE}")
        for name in names:
            if name not in POLICIES and ":" not in name and not name.endswith(ZIP):
                raise ValueError(
                    f"unknown policy {name!r}; give one of {', '.join(POLICIES)}, {AGENT}FOLDER, FILE{ZIP}, "
                    f"module:function, or a mix of them, such as {EXAMPLE}"
                )
        given = [1.0 if share is None else share for share in shares]
        policies = cls(names, tuple(share / sum(given) for share in given))
        if twice := next((one for one in policies.labels if policies.labels.count(one) > 1), None):
            raise ValueError(
                f"policy {text!r} has two that are called {twice!r}; name each once, and its folders apart"
            )
        return policies

    @property
    def labels(self) -> tuple[str, ...]:
        """The policies as a recording names them: not where they lie, which is nobody else's matter."""
        return tuple(map(_label, self.names))

    @property
    def text(self) -> str:
        """What `parse` reads, of the labels."""
        if len(self.names) == 1:
            return self.labels[0]
        return ",".join(f"{label}:{share:.6g}" for label, share in zip(self.labels, self.shares))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the column policy_kind counts: the scripts and random, then the other policies."""
        others = [label for name, label in zip(self.names, self.labels) if not is_scripted(name)]
        return (*MIX, *(others or ["agent"]))

    def digests(self) -> str | list[str]:
        """What the weights or the code of those that are no scripts hash to, one or a list; "" where there are none."""
        from wm_gym.policies.callable import digest_of_callable
        from wm_gym.policies.catalogue import digest_of_agent

        found = [
            digest_of_agent(source_of(name)) if _is_stored(name) else digest_of_callable(name)
            for name in self.names
            if not is_scripted(name)
        ]
        return found if len(found) > 1 else "".join(found)


def is_scripted(name: str) -> bool:
    """Whether a policy is a script of the environment, or random."""
    return name in POLICIES


def source_of(name: str) -> str:
    """What `load_agent` takes for a policy that is no script."""
    return name.removeprefix(AGENT)


def _is_stored(name: str) -> bool:
    return name.startswith(AGENT) or name.endswith(ZIP)


def _label(name: str) -> str:
    path = Path(source_of(name))
    if is_scripted(name) or not (path.is_absolute() or path.exists()):
        return name
    return (AGENT if name.startswith(AGENT) else "") + path.resolve().name


def _with_share(part: str) -> tuple[str, float | None]:
    """A policy and its share, None where nobody said."""
    name, _, share = part.strip().rpartition(":")
    try:
        value = float(share)
    except ValueError:
        return part.strip(), None
    if not name or f"{name}:" == AGENT:  # an agent whose folder is a number
        return part.strip(), None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"policy {part!r}: the share is {share}, expected a number above 0, as in {EXAMPLE}")
    return name, value
