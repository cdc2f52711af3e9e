"""What do the wrappers make of an environment?"""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wm_gym.env import WorldEnv
from wm_gym.wrappers import DiscreteActions, TokenizerRoundTrip


def test_discrete_actions(world):
    env = DiscreteActions(WorldEnv(world, backend="torch"))
    assert env.action_space == gym.spaces.Discrete(7)
    pushes = np.stack([env.action(i) for i in range(7)])
    np.testing.assert_array_equal(pushes[0], 0)
    np.testing.assert_array_equal(pushes[1:], np.kron(np.eye(3), [[1], [-1]]))
    check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)
    env.reset(seed=0)
    env.step(3)
    with pytest.raises(ValueError, match="0..6"):
        env.step(7)
    with pytest.raises(ValueError, match="Box"):
        DiscreteActions(gym.make("CartPole-v1"))


class Camera(gym.Env):
    """A real camera's stand-in: shows a clip's pictures."""

    action_space = gym.spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, frames, as_dict=False):
        self.frames, self.as_dict = frames, as_dict
        pixels = gym.spaces.Box(0, 255, frames.shape[1:], np.uint8)
        self.observation_space = gym.spaces.Dict({"pixels": pixels}) if as_dict else pixels

    def reset(self, *, seed=None, options=None):
        return ({"pixels": self.frames[0]} if self.as_dict else self.frames[0]), {}


@pytest.mark.parametrize("as_dict", [False, True])
def test_the_round_trip_shows_what_a_reset_in_the_world_shows(world, as_dict):
    picture = world.starts.frames[3, -1]
    shown = TokenizerRoundTrip(Camera(picture[None], as_dict), world).reset()[0]
    expected = WorldEnv(world, backend="torch").reset(options={"image": picture})[0]
    np.testing.assert_array_equal(shown["pixels"] if as_dict else shown, expected)
    with pytest.raises(ValueError, match="64, 64, 3"):
        TokenizerRoundTrip(Camera(picture[None, :32]), world)


def test_videos_are_recorded(folder, tmp_path):
    pytest.importorskip("moviepy")
    env = gym.make("wm_gym/World-v0", world=folder, backend="torch", render_mode="rgb_array", max_episode_steps=4)
    env = gym.wrappers.RecordVideo(env, str(tmp_path / "videos"), disable_logger=True)
    env.reset(seed=0)
    while not env.step(np.zeros(3, np.float32))[3]:
        pass
    env.close()
    assert [p.suffix for p in (tmp_path / "videos").iterdir()] == [".mp4"]
