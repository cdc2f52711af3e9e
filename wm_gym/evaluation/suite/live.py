"""Does the world break a law of physics right now? Its twin is stepped beside it, and `info` says so."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from wm_gym.evaluation.control_worlds import drawing_twin
from wm_gym.evaluation.metrics.violations import Detector, Replay


class PhysicsViolations(gym.Wrapper):
    """A learned environment whose episodes begin where its twin's do and whose `info` has "violations".

        context = Context(find_world("Push-v0"), "wm_gym/PushPyBullet-v0", Path("Push-v0-evaluation"))
        env = PhysicsViolations(gym.make("wm_gym/Push-v0"), context.env, context.detector)

    info["violations"] is {class: excess over the detector's limit, in `UNITS`} of the violations that this step is part
    of, empty where there is none or nothing can be said; a class that must last is reported from its third frame on. A
    step costs one of the twin, and the reading of all frames since the start.

    Args:
        env: The learned environment.
        twin: Made with render_mode="rgb_array".
        detector: Of violations.

    Raises:
        ValueError: Where the twin draws nothing, and for a reset with options: an episode begins where the twin does.
    """

    def __init__(self, env: gym.Env, twin: gym.Env, detector: Detector):
        super().__init__(env)
        self.twin, self.detector = drawing_twin(twin), detector
        self._made: list[np.ndarray] = []
        self._true: list[dict[str, np.ndarray]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin where the twin begins with this seed."""
        if options:
            raise ValueError(
                f"options are {sorted(options)}; PhysicsViolations begins where its twin does: pass a "
                "seed, or step the environment without it"
            )
        _, info = self.twin.reset(seed=seed)
        self._made, self._true = [], [self._seen(info)]
        start = {"image": self._true[0]["frames"], "proprioception": info["proprioception"]}
        observation, info = self.env.reset(seed=seed, options=start)
        return observation, {**info, "violations": {}}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step of both."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        learned: Any = self.env.unwrapped
        self._made.append(learned.core.render(0))
        self._true.append(self._seen(self.twin.step(action)[-1]))
        return observation, reward, terminated, truncated, {**info, "violations": self._violations()}

    def _seen(self, info: dict) -> dict[str, np.ndarray]:
        """What a `Replay` holds, of this moment."""
        state = self.twin.get_physics_state()
        return {"frames": self.twin.render(), "physics_state": state, "proprioception": info["proprioception"]}

    def _violations(self) -> dict[str, float]:
        so_far = Replay(**{key: np.stack([one[key] for one in self._true])[None] for key in self._true[0]})
        severities = self.detector.severities(self.detector.read(np.stack(self._made)[None], so_far))
        now = len(self._made)
        return {
            kind: float(severities[kind][0, -1] - self.detector.limits[kind])
            for kind, events in self.detector.events(severities).items()
            if any(e.last == now for e in events)
        }
