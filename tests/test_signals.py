"""Which signs of trouble does a world show? On the shipped Push world: strange pictures, and what it says of a step."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from tiny_world import make_world
from twins import PUSH, make

from wm_gym.engine.torch import TorchEngine
from wm_gym.evaluation.trust.signals import Novelty, StartCheck, signals, worst_patch
from wm_gym.evaluation.trust.uncertainty import detects_shifts
from wm_gym.physics.shift import VISIBLE


def test_signs_of_a_step():
    env = gym.make("wm_gym/World-v0", world=make_world())
    with pytest.raises(ResetNeeded):
        signals(env, np.zeros(3))
    env.reset(seed=0)
    before = env.unwrapped.get_state()
    told = signals(env, np.zeros(3, np.float32), seeds=4)
    assert set(told) == {"disagreement", "flow_instability", "round_trip"}
    assert all(values.shape == (16, 16) and (values >= 0).all() and values.any() for values in told.values())
    for key, values in env.unwrapped.get_state().items():
        np.testing.assert_array_equal(values, before[key])
    again = signals(env, np.zeros(3, np.float32), seeds=4)
    np.testing.assert_array_equal(told["disagreement"], again["disagreement"])


def test_worst_patch():
    a, b = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)
    b[0, 4:, 4:] = 10
    assert worst_patch(a, b).tolist() == [10.0]
    b[0, 4, 4] = 250
    assert worst_patch(a, b).tolist() == [10 + 240 / 16]


def test_known_frames_are_not_novel_and_others_are(push_episodes):
    frames = push_episodes.frames[:, 0]
    novelty = Novelty(frames[:12])
    assert novelty.score(frames[:12]).max() < 0.05  # each is in the bank itself
    owned = novelty.score(frames[:12], np.arange(12))
    assert owned.min() > 0.5
    strange = frames[12:].copy()
    strange[:, 20:32, 20:32] = [200, 0, 200]
    assert novelty.score(strange).min() > owned.max()
    with pytest.raises(ValueError, match="one background"):
        Novelty(np.zeros((3, 32, 32, 3), np.uint8))


@pytest.mark.slow
def test_tells_shifted_starts_from_usual_ones(push_world):
    """12 usual starts and 12 of each visible shift; the shipped world's numbers on 200 are in benchmarks/results."""
    pictures = {}
    for name in (None, *VISIBLE):
        env, seen = make(PUSH, render_mode="rgb_array", shift=name), []
        for k in range(12):
            info = env.reset(seed=100 + k)[1]
            seen.append((env.render(), info["proprioception"]))
        env.close()
        pictures[name] = tuple(map(np.stack, zip(*seen)))
    check = StartCheck(push_world.world, TorchEngine(push_world.world), most=80)
    found = detects_shifts(check, pictures.pop(None), pictures)
    assert set(found) == set(VISIBLE)
    for name in ("colour", "lighting", "camera", "stranger"):
        assert found[name].score > 0.9, found
    assert found["size"].novelty > 0.75, found
