"""Does a world say how wrong it is? The network, its training, the calibration and what environments make of it."""

from __future__ import annotations

import dataclasses
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_world import make_world

from wm_gym.data import DatasetError, open_clips
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.trust.calibrate import Errors, calibrate, calibration_of, errors, trust_table
from wm_gym.evaluation.trust.coverage import unbiased_threshold
from wm_gym.evaluation.trust.uncertainty import Kept, Trust, dense_calibration, kept, teacher_forced_errors, uncertainty
from wm_gym.models import Uncertainty
from wm_gym.training import train
from wm_gym.training.build import new_world
from wm_gym.training.presets import PRESETS
from wm_gym.training.uncertainty import UncertaintyLoss, own_roll_outs
from wm_gym.worlds.calibration import Calibration
from wm_gym.worlds.world import World

CALIBRATION = Calibration(
    alpha=0.1,
    factor=2.0,
    limit=1e-9,
    tolerance=0.2,
    trust=[[0.0, 15], [0.1, 4], [0.3, 0]],
    episodes=100,
    steps=10,
    measured_on="a test",
)


# --- the network -----------------------------------------------------------------------------------------------------


def test_begins_certain_and_stays_a_distribution():
    network = Uncertainty(feature_dim=8, grid=(4, 4))
    error_distribution = network.none(2)
    assert (error_distribution[:, 0] == 1).all() and error_distribution.sum() == 2 * 16
    latent = torch.randn(2, 4, 4, 4)
    after = network(error_distribution, torch.randn(2, 8, 4, 4), latent, latent, latent).exp()
    assert after.shape == (2, *network.shape())
    torch.testing.assert_close(after.sum(1), torch.ones(2, 4, 4))


def test_bins_follow_the_errors():
    network = Uncertainty()
    errors = torch.from_numpy(np.random.default_rng(0).lognormal(-2, 1, 20_000)).float()
    network.fit_edges(errors)
    assert (network.edges.diff() > 0).all() and (network.means.diff() > 0).all()
    shares = torch.bincount(torch.bucketize(errors, network.edges), minlength=12) / len(errors)
    assert (shares * network.means).sum() == pytest.approx(errors.mean().item(), rel=1e-4)
    assert shares[0] == pytest.approx(0.05, abs=0.01) and shares[-1] == pytest.approx(0.001, abs=0.001)


def test_learns_which_patches_go_wrong():
    """Errors come where a feature says so, last, and are otherwise small: both must be foretold, on new roll-outs."""

    def made(seed: int, count: int = 64, steps: int = 8):
        generator = torch.Generator().manual_seed(seed)
        broken = (torch.rand(count, steps, 1, 6, 6, generator=generator) < 0.05).float()
        features = torch.cat([broken, torch.randn(count, steps, 3, 6, 6, generator=generator)], dim=2)
        scale = torch.where(broken.cumsum(1)[:, :, 0] > 0, 1.0, 0.05)
        error = scale * torch.rand(count, steps, 6, 6, generator=generator)
        return features, torch.zeros(count, steps + 1, 4, 6, 6), torch.zeros(count, 4, 6, 6), error

    torch.manual_seed(0)
    network, train_set = Uncertainty(feature_dim=4, grid=(6, 6)), made(0)
    network.fit_edges(train_set[3])
    loss, optimizer = UncertaintyLoss(network), torch.optim.AdamW(network.parameters(), lr=2e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss(*train_set)[0].backward()
        optimizer.step()
    features, latents, first, error = made(1)
    with torch.no_grad():
        error_distribution, along = network.none(len(first)), []
        for t in range(error.shape[1]):
            error_distribution = network(
                error_distribution, features[:, t], latents[:, t + 1], latents[:, t], first
            ).exp()
            along.append(error_distribution)
    found = dense_calibration(torch.stack(along, 1).numpy(), error.numpy(), network.edges.numpy())
    assert found.ece < 0.03 and found.brier_skill > 0.15
    assert max(each.brier_skill for each in found.epsilons) > 0.5
    stated = torch.stack([network.expected_error(each) for each in along], 1)
    ever = features[:, :, 0].cumsum(1) > 0
    assert stated[ever].mean() > 5 * stated[~ever].mean()


def test_an_epsilon_that_tells_nothing_is_not_counted():
    error_distribution = np.zeros((2, 3, 3, 4, 4), np.float32)
    error_distribution[:, :, 0] = 1
    with pytest.raises(ValueError, match="--refit"):
        dense_calibration(error_distribution, np.zeros((2, 3, 4, 4)), np.array([0.1, 1.0]))


def test_roll_outs_are_keyed_by_their_seed(balls, tiny_world):
    clips = open_clips(balls, size=(64, 64), progress=False)
    clips.action = np.zeros((len(clips.action), 3), np.float32)
    clips.proprioception = np.zeros((len(clips.action), 3), np.float32)
    one, same, other = (own_roll_outs(tiny_world, clips, np.arange(4), 3, 5, seed) for seed in (0, 0, 1))
    assert one.features.shape == (3, 5, tiny_world.dynamics.feature_dim, 16, 16)
    assert one.latents.shape == (3, 6, 4, 16, 16) and one.error.shape == (3, 5, 16, 16)
    assert torch.equal(one.error, same.error) and not torch.equal(one.error, other.error)


# --- calibration -----------------------------------------------------------------------------------------------------


def test_guarantees_of_a_calibration():
    """90 of 100 episodes of stated error 1 go wrong at step 6 of 10, the others never; the factor is that ratio."""
    error = np.full((100, 10), 0.5)
    error[10:, 5:] = 3.0
    made = calibration_of(Errors(np.ones((100, 10)), error, late=1.0), 0.1, "a test")
    assert made.factor == 3.0 and made.limit == 1.0 and made.tolerance == 1.0
    assert made.trust[0] == [0.0, 5] and (made.episodes, made.steps) == (100, 10)
    assert made.trust_horizon(np.array([0.0, 0.5, 1.0, 9.0])).tolist() == [5, 5, 0, 0]


def test_a_world_that_never_fails_is_trusted_to_the_end():
    stated = np.tile(np.linspace(0.1, 1, 10), (20, 1))
    assert trust_table(Errors(stated, np.zeros((20, 10)), late=1.0), 0.1)[0] == [0.0, 10]


def test_trust_that_is_kept_and_trust_that_is_broken(tiny_world):
    tiny_world.calibration = dataclasses.replace(CALIBRATION, trust=[[0.0, 3], [0.5, 0]], limit=2.0, tolerance=1.0)
    stated = np.tile([0.1, 0.2, 0.6, 0.7], (10, 1))
    right, wrong = np.full((10, 4), 0.5), np.tile([0.5, 0.5, 0.5, 2.0], (10, 1))
    assert kept(tiny_world, Errors(stated, right, 1.0), (4,)).trust == Trust(30, 1.0)
    assert kept(tiny_world, Errors(stated, wrong, 1.0), (4,)).trust.kept == 1 / 3  # from the start only
    assert kept(tiny_world, Errors(stated, wrong, 1.0), (4,)).limit["rate"] == 0
    tiny_world.calibration = dataclasses.replace(tiny_world.calibration, trust=[[0.0, 0]])
    assert kept(tiny_world, Errors(stated, right, 1.0), (4,)).trust == Trust(0, None)
    assert kept(make_world(), Errors(stated, wrong, 1.0), (4,)) == Kept(None, None, None)


def test_too_few_episodes_make_no_guarantee():
    with pytest.raises(ValueError, match="8 episodes are too few"):
        calibration_of(Errors(np.ones((8, 3)), np.ones((8, 3)), 1.0), 0.1, "a test")


@pytest.mark.parametrize("text", ["{", "{}", json.dumps(dataclasses.asdict(CALIBRATION) | {"trust": [[1, 2], [0, 3]]})])
def test_damaged_calibration_is_named(tiny_world_folder, tmp_path, text):
    folder = shutil.copytree(tiny_world_folder, tmp_path / "w")
    (folder / "calibration.json").write_text(text)
    with pytest.raises(ValueError, match="calibration.json is no calibration"):
        World.from_pretrained(folder)


def test_calibration_is_saved_with_its_weights_and_not_with_others(tiny_world, tmp_path):
    folder = dataclasses.replace(tiny_world, calibration=CALIBRATION).save_pretrained(tmp_path / "w")
    assert World.from_pretrained(folder).calibration == CALIBRATION
    tiny_world.save_pretrained(folder)
    assert World.from_pretrained(folder).calibration is None


@pytest.mark.slow
def test_calibrate_a_trained_world(balls, tmp_path):
    """A tiny world of balls: refitted and measured on other recordings, then asked for its promises and errors."""
    from wm_gym.collect.record import record

    short = {"tokenizer_updates": 60, "dynamics_updates": 60, "pose_updates": 20, "heads_updates": 20}
    folder = train(balls, tmp_path / "w", preset="tiny", overrides=short, progress=False)
    others = record("ball_env:wm_gym_test/Ball-v0", 100, policy="mix", out=tmp_path / "others", seed=9, workers=0)
    before = World.from_pretrained(folder)
    assert before.calibration is None
    made = calibrate(folder, [others], refit=True, progress=False, sizes=PRESETS["tiny"])
    after = World.from_pretrained(folder)
    assert after.calibration == made and made.episodes == 50 and made.factor > 0
    assert not torch.equal(before.uncertainty.edges, after.uncertainty.edges)
    assert torch.equal(before.heads.reward_mean, after.heads.reward_mean)
    assert not (tmp_path / "w.calibrating").exists()
    episodes = Episodes.of(open_clips(others, progress=False), made.steps)
    odd = episodes.select(episodes.number % 2 == 1)
    told, true = errors(after, odd).success, odd.clips.success[odd.rows[:, 1:]].any(1)
    assert min(true.sum(), (~true).sum()) >= 20 and before.spec.success_threshold == 0.5
    assert after.spec.success_threshold == unbiased_threshold(told, true)
    few = record("ball_env:wm_gym_test/Ball-v0", 20, policy="mix", out=tmp_path / "few", seed=9, workers=0)
    calibrate(folder, [few], progress=False)
    assert World.from_pretrained(folder).spec.success_threshold == after.spec.success_threshold  # too few to tell
    without = dataclasses.replace(after, spec=dataclasses.replace(after.spec, success_threshold=2.0))
    calibrate(without.save_pretrained(tmp_path / "without"), [others], progress=False)
    assert World.from_pretrained(tmp_path / "without").spec.success_threshold == 2.0  # it knows no success
    found = uncertainty(after, episodes, (1, made.steps), every=2)
    assert found.coverage[f"up_to_{made.steps}"]["rate"] > 0.7 and found.dense["autoregressive"].ece < 0.2
    one_step = teacher_forced_errors(after, episodes)
    assert one_step.shape == (100,) and (one_step > 0).all()
    env = gym.make("wm_gym/World-v0", world=str(folder), truncate_on_uncertainty=True)
    info = env.reset(seed=0)[1]
    assert info["trust_horizon"] == made.trust_horizon(0.0) and info["error_bound"] == 0


def test_a_refit_that_was_begun_on_other_recordings_is_refused(balls, tmp_path, monkeypatch):
    from wm_gym.collect.record import record
    from wm_gym.evaluation.trust import calibrate as module
    from wm_gym.training.trainer import spec_of

    def stop(*_):
        raise KeyboardInterrupt

    others = record("ball_env:wm_gym_test/Ball-v0", 24, out=tmp_path / "others", seed=9, workers=0, progress=False)
    spec = spec_of(open_clips(balls, progress=False), "Balls-v0")
    folder = new_world(spec, preset="tiny", seed=0).save_pretrained(tmp_path / "w")
    kwargs = {"refit": True, "progress": False, "sizes": dataclasses.replace(PRESETS["tiny"], uncertainty_updates=4)}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "_measured", stop)
        calibrate(folder, [balls], **kwargs)
    assert (tmp_path / "w.calibrating").is_dir()
    with pytest.raises(
        ValueError, match="w.calibrating was begun with other arguments: dataset .*rm -r .*w.calibrating"
    ):
        calibrate(folder, [others], **kwargs)
    assert World.from_pretrained(folder).calibration is None
    calibrate(folder, [balls], **kwargs)
    assert not (tmp_path / "w.calibrating").exists() and World.from_pretrained(folder).calibration


def test_calibrate_wants_recordings_of_this_world(tiny_world_folder, tmp_path):
    with pytest.raises(DatasetError, match="wm-gym record"):
        calibrate(tiny_world_folder, [tmp_path / "none"], progress=False)


# --- the environment -------------------------------------------------------------------------------------------------


def test_penalty_is_taken_off_the_reward():
    world, action = make_world(), np.full(3, 0.5, np.float32)
    rewards = {}
    for penalty in (0.0, 2.0):
        env = gym.make("wm_gym/World-v0", world=world, uncertainty_penalty=penalty)
        env.reset(seed=0)
        _, rewards[penalty], _, _, info = env.step(action)
        assert rewards[penalty] == pytest.approx(sum(v for k, v in info.items() if k.startswith("reward/")))
    assert info["reward/uncertainty"] == pytest.approx(-2.0 * info["uncertainty"]) and info["uncertainty"] > 0
    assert rewards[2.0] == pytest.approx(rewards[0.0] - 2.0 * info["uncertainty"])


def test_truncated_where_the_limit_is_passed():
    world = dataclasses.replace(make_world(), calibration=CALIBRATION)
    env = gym.make("wm_gym/World-v0", world=world, truncate_on_uncertainty=True)
    env.reset(seed=0)
    *_, truncated, info = env.step(np.zeros(3, np.float32))
    assert truncated is True and info["uncertainty"] > CALIBRATION.limit
    assert info["error_bound"] == pytest.approx(2.0 * info["uncertainty"])
    assert info["trust_horizon"] == CALIBRATION.trust_horizon(info["uncertainty"])
    env = gym.make("wm_gym/World-v0", world=world)
    env.reset(seed=0)
    assert env.step(np.zeros(3, np.float32))[3] is False


def test_batches_take_the_same_options():
    from wm_gym.sb3 import WorldVecEnv

    world = dataclasses.replace(make_world(), calibration=CALIBRATION)
    batch = gym.make_vec(
        "wm_gym/World-v0",
        2,
        vectorization_mode="vector_entry_point",
        world=world,
        uncertainty_penalty=1.0,
        truncate_on_uncertainty=True,
    )
    batch.reset(seed=0)
    *_, truncated, info = batch.step(np.zeros((2, 3), np.float32))
    assert truncated.all() and (info["reward/uncertainty"] < 0).all() and info["trust_horizon"].dtype == np.int64
    venv = WorldVecEnv(2, world=world, truncate_on_uncertainty=True, uncertainty_penalty=1.0)
    venv.reset()
    _, _, dones, infos = venv.step(np.zeros((2, 3), np.float32))
    assert dones.all() and infos[0]["TimeLimit.truncated"] and infos[1]["reward/uncertainty"] < 0


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"uncertainty_penalty": -1.0}, "uncertainty_penalty is -1.0"),
        ({"uncertainty_penalty": np.nan}, "finite real number"),
        ({"truncate_on_uncertainty": True}, "wm-gym calibrate"),
    ],
)
def test_wrong_options_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        gym.make("wm_gym/World-v0", world=make_world(), **wrong)


def test_the_error_distribution_is_part_of_the_state():
    env = gym.make("wm_gym/World-v0", world=make_world()).unwrapped
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.ones(3, np.float32))
    state, here = env.get_state(), env.step(np.ones(3, np.float32))[-1]["uncertainty_map"]
    env.reset(seed=5)
    env.set_state(state)
    np.testing.assert_array_equal(env.step(np.ones(3, np.float32))[-1]["uncertainty_map"], here)
    before = {{"error_distribution": "doubt"}.get(key, key): value for key, value in state.items()}
    env.set_state(before)  # as it was saved before 0.2
    np.testing.assert_array_equal(env.step(np.ones(3, np.float32))[-1]["uncertainty_map"], here)
    env.set_state(state | {"error_distribution": state["error_distribution"][::-1].copy()})
    assert not np.array_equal(env.step(np.ones(3, np.float32))[-1]["uncertainty_map"], here)
