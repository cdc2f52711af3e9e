"""Does training learn, resume bit for bit after a kill, take real robot video, and refuse what it cannot do?"""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from forked import forked
from short import short

from wm_gym.collect.record import record
from wm_gym.data import join_clips, open_clips
from wm_gym.models.conditioning import VectorCode
from wm_gym.models.tokenizer import to_float
from wm_gym.training import train
from wm_gym.training.loop import Run, fit
from wm_gym.training.presets import PRESETS
from wm_gym.training.segments import SegmentSampler
from wm_gym.worlds.world import World

TESTS = Path(__file__).parent
SHORT = short(12, checkpoint_every=4, report_every=12)


def weights(folder):
    return {name: module.state_dict() for name, module in World.from_pretrained(folder).modules().items()}


def assert_same_weights(a, b):
    a, b = weights(a), weights(b)
    for part, tensors in a.items():
        for key, tensor in tensors.items():
            np.testing.assert_array_equal(tensor.numpy(), b[part][key].numpy(), err_msg=f"{part}.{key}")


def test_world_folder_says_what_it_was_trained_on(balls, tmp_path):
    out = train(balls, tmp_path / "w", preset="tiny", overrides=SHORT, progress=False)
    world = World.from_pretrained(out)
    assert world.spec.frame_size == [32, 32] and world.spec.reward_components == ["progress", "success"]
    assert world.spec.proprioception_names == ["x", "y"] and world.spec.horizon == 15
    assert world.spec.action_unit == "a tenth of the picture" and world.spec.proprioception_unit == ""
    assert len(world.starts) == 8 and world.starts.physics_state.shape == (8, 4)
    assert (tmp_path / "w.log" / "dynamics.png").is_file() and list((tmp_path / "w.log").rglob("events.*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w", "w.log"]


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from wm_gym.training import train
saved = False
def kill(event, arguments):  # at the first call to the system after a checkpoint of the stage is there
    global saved
    if saved and event.startswith("os.") and event != "os.kill":
        os.kill(os.getpid(), signal.SIGKILL)
    saved = saved or event == "os.rename" and os.fspath(arguments[1]).endswith("{stage}-8")
sys.addaudithook(kill)
train({data!r}, {out!r}, preset="tiny", overrides={overrides!r}, progress=False)
"""


def test_finetuning_goes_on_from_a_world_on_more_recordings(balls, tmp_path):
    first = train(balls, tmp_path / "first", preset="tiny", overrides=SHORT | {"sampling_steps": 2}, progress=False)
    more = record("ball_env:wm_gym_test/Ball-v0", 4, policy="expert", out=tmp_path / "more", seed=9, workers=0)
    kept = {"tokenizer_updates": 0, "pose_updates": 0}
    out = train([balls, more], tmp_path / "second", preset="tiny", overrides=SHORT | kept, init=first, progress=False)
    assert World.from_pretrained(out).spec.sampling_steps == 2
    before, after = weights(first), weights(out)
    for part, same in (("tokenizer", True), ("dynamics", False), ("heads", False)):
        equal = all((tensor == after[part][key]).all() for key, tensor in before[part].items())
        assert equal is same, part
    for key, tensor in before["dynamics"].items():
        if key.startswith(("pose_net", "pose_code")):
            assert (tensor == after["dynamics"][key]).all(), key
    spec = World.from_pretrained(out).spec
    assert "44 episodes" in spec.trained_on and "first" in spec.trained_on and spec.name == "second"


def test_a_deeper_decoder_draws_the_same_latents_better(balls, tmp_path):
    kept = {f"{stage}_updates": 0 for stage in ("pose", "dynamics", "heads", "uncertainty")}
    first = train(balls, tmp_path / "first", preset="tiny", overrides=SHORT, progress=False)
    config = first / "tokenizer" / "config.json"  # as worlds wrote it before there were deeper decoders
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "decoder_depth"}))
    out = train(
        balls,
        tmp_path / "second",
        preset="tiny",
        progress=False,
        init=first,
        overrides=SHORT | kept | {"decoder_only": True, "decoder_depth": 2, "tokenizer_updates": 100},
    )
    before, after = World.from_pretrained(first), World.from_pretrained(out)
    assert (before.tokenizer.config.decoder_depth, after.tokenizer.config.decoder_depth) == (1, 2)
    frames = np.array(open_clips(balls).frames[::25])
    latents = [world.tokenizer.encode(to_float(torch.from_numpy(frames))) for world in (before, after)]
    assert torch.equal(*latents)
    unlike = [np.abs(world.tokenizer.round_trip(frames).astype(float) - frames).mean() for world in (before, after)]
    assert unlike[1] < 0.8 * unlike[0]
    third = train(
        balls,
        tmp_path / "third",
        preset="tiny",
        overrides=SHORT | kept | {"tokenizer_updates": 0},
        init=out,
        progress=False,
    )
    assert (
        World.from_pretrained(third).tokenizer.config.decoder_depth == 2
    )  # what it goes on from is never made shallower


def test_a_decoder_alone_needs_a_world(balls, tmp_path):
    with pytest.raises(ValueError, match="decoder_only .* --init"):
        train(balls, tmp_path / "w", preset="tiny", overrides=SHORT | {"decoder_only": True})
    assert not list(tmp_path.iterdir())


def test_finetuning_without_a_world_is_refused(balls, tmp_path):
    with pytest.raises(ValueError, match="--init"):
        train(balls, tmp_path / "w", preset="finetune")
    assert not list(tmp_path.iterdir())


def test_latest_share_of_a_batch(balls, tmp_path):
    more = record("ball_env:wm_gym_test/Ball-v0", 2, policy="expert", out=tmp_path / "more", seed=9, workers=0)
    clips = join_clips([open_clips(balls), open_clips(more)])
    sampler = SegmentSampler(clips, 2, np.arange(42), latest_share=0.25)
    segments = sampler.draw(np.random.default_rng(0), 64, 4)
    assert (segments.rows[:, -1] >= clips.episode_offset[40]).sum() == 16
    assert all(np.searchsorted(clips.episode_offset, row, side="right").std() == 0 for row in segments.moves)


def test_killed_training_ends_with_the_same_weights(balls, tmp_path):
    sizes = SHORT | {"report_every": 6}  # a report before the kill, too
    whole = train(balls, tmp_path / "whole", preset="tiny", overrides=sizes, progress=False)
    out = tmp_path / "killed"
    for stage in ("tokenizer", "dynamics"):  # killed once in each, just after a checkpoint
        script = SCRIPT.format(tests=str(TESTS), data=str(balls), out=str(out), overrides=sizes, stage=stage)
        killed = forked("forked:run", script)
        assert killed.returncode == -signal.SIGKILL, killed.stdout
        assert (tmp_path / "killed.training" / "checkpoints" / f"{stage}-8").is_dir() and not out.exists()
    assert_same_weights(whole, train(balls, out, preset="tiny", overrides=sizes, progress=False))


class Coded(torch.nn.Module):
    """As in a world without proprioception: the normaliser of the pose has two empty buffers."""

    def __init__(self):
        super().__init__()
        self.code, self.net = VectorCode(0, ()), torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.net(torch.cat([x, self.code(x[:, :0])], 1)).mean(), {}


def test_training_without_proprioception_resumes(tmp_path, caplog):
    """Accelerate would take its empty buffers for one, and store that once."""

    def trained():
        torch.manual_seed(0)
        run, module = Run(tmp_path, PRESETS["tiny"], 0, Accelerator(cpu=True), progress=False), Coded()
        fit(run, "dynamics", module, 3, lambda *_: {"x": torch.ones(1, 2)})
        return module.state_dict()

    first, again = trained(), trained()
    assert (tmp_path / "checkpoints" / "dynamics-3").is_dir() and "shared" not in caplog.text
    for name, value in first.items():
        torch.testing.assert_close(value, again[name], rtol=0, atol=0)


def test_seed_decides_the_weights(balls, tmp_path):
    one = train(balls, tmp_path / "one", preset="tiny", overrides=SHORT, progress=False, seed=1)
    same = train(balls, tmp_path / "same", preset="tiny", overrides=SHORT, progress=False, seed=1)
    other = train(balls, tmp_path / "other", preset="tiny", overrides=SHORT, progress=False, seed=2)
    assert_same_weights(one, same)
    with pytest.raises(AssertionError):
        assert_same_weights(one, other)


def test_unknown_preset_names_the_known_ones(balls, tmp_path):
    with pytest.raises(ValueError, match="'huge' is unknown.*small"):
        train(balls, tmp_path / "w", preset="huge")


def test_frames_of_odd_size_are_refused_before_anything_is_written(balls, tmp_path):
    with pytest.raises(ValueError, match="frames are 30x34, .* --size 28x32"):
        train(balls, tmp_path / "w", preset="tiny", size=(30, 34))
    assert not list(tmp_path.iterdir())


def test_finished_world_is_not_overwritten(balls, tiny_world_folder):
    with pytest.raises(ValueError, match="--overwrite"):
        train(balls, tiny_world_folder, preset="tiny")


def test_resuming_with_other_arguments_is_refused(balls, tmp_path):
    folder = tmp_path / "w.training"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="other arguments"):
        train(balls, tmp_path / "w", preset="tiny")


def test_takes_real_robot_video_as_it_stands(droid_dataset, tmp_path):
    import gymnasium as gym

    out = train(
        droid_dataset,
        tmp_path / "droid",
        preset="tiny",
        overrides=SHORT,
        progress=False,
        camera="wrist_left",
        size=(48, 80),
    )
    world = World.from_pretrained(out)
    assert world.dynamics.config.action_angles == [3, 4, 5]  # roll, pitch and yaw wrap at +-pi
    env = gym.make("wm_gym/World-v0", world=str(out), backend="torch")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (48, 80, 3)
    observation, reward, terminated, truncated, info = env.step(
        np.clip(info_pose(env), env.action_space.low, env.action_space.high)
    )
    assert observation.shape == (48, 80, 3) and not terminated and np.isfinite(info["proprioception"]).all()
    env.close()


def info_pose(env):
    """Hold still: these actions are absolute targets, so the present pose is the action."""
    _, info = env.reset(seed=0)
    return info["proprioception"]


@pytest.mark.slow
def test_world_and_agent_learn(tmp_path):
    """A world trained for a minute or two beats the frozen frame and obeys the action; an agent learns inside it."""
    from wm_gym.data.clips import open_clips
    from wm_gym.rl.callbacks import read_curve
    from wm_gym.rl.train import train_agent
    from wm_gym.training.report import early_report
    from wm_gym.training.segments import SegmentSampler

    data = record("ball_env:wm_gym_test/Ball-v0", 200, policy="mix", out=tmp_path / "data", seed=0, workers=0)
    held = open_clips(
        record("ball_env:wm_gym_test/Ball-v0", 30, policy="mix", out=tmp_path / "held", seed=1, workers=0),
        progress=False,
    )
    out = train(
        data,
        tmp_path / "w",
        preset="tiny",
        progress=False,
        overrides={
            "tokenizer_updates": 500,
            "dynamics_updates": 450,
            "heads_updates": 200,
            "uncertainty_updates": 10,
            "report_every": 1000,
            "starts": 400,
        },
    )
    segments = SegmentSampler(held, 2, np.arange(30)).draw(np.random.default_rng(0), 64, 8)
    numbers = early_report(World.from_pretrained(out), held, segments, np.median(held.frames[:200], axis=0))
    print(numbers)
    assert numbers["psnr@8"] > numbers["frozen@8"] + 0.3, numbers  # the tiny tokenizer's ceiling is about 1 dB above
    assert numbers["mirrored@8"] > 1.5, numbers  # dB lost when the actions are mirrored; 0 for a world that is deaf

    agent = train_agent(
        "ppo", "wm_gym/World-v0", tmp_path / "agent", timesteps=7_168, env_kwargs={"world": str(out)}, progress=False
    )
    curve = read_curve(tmp_path / "agent.training" / "curve.csv")
    first, last = curve[1]["episode_reward"], curve[-1]["episode_reward"]
    print(agent, first, last)
    assert last > first + 0.5, curve  # reward: 10 x the way nearer to the disc (0.5 at first) and 1 for success


def test_stopped_after_the_world_is_saved_it_has_its_card_and_the_same_call_ends_it(balls, tmp_path, monkeypatch):
    from wm_gym.training import trainer

    def stop(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "_free_name", stop)
        with pytest.raises(KeyboardInterrupt):
            train(balls, tmp_path / "w", preset="tiny", overrides=SHORT, progress=False)
    assert (tmp_path / "w" / "README.md").is_file() and (tmp_path / "w.training").is_dir()
    before = weights(tmp_path / "w")
    train(balls, tmp_path / "w", preset="tiny", overrides=SHORT, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w", "w.log"]
    for part, tensors in weights(tmp_path / "w").items():
        assert all(torch.equal(tensor, before[part][key]) for key, tensor in tensors.items())


def test_two_trainings_into_one_folder(balls, tmp_path):
    from wm_gym.common.files import locked

    with locked(tmp_path / "w.training", "is training in"), pytest.raises(ValueError, match="another process.*--out"):
        train(balls, tmp_path / "w", preset="tiny", overrides=SHORT, progress=False)
