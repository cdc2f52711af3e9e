"""Are actions read off video, on every kind of network, and is video refused that no robot could have filmed?"""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from short import flags

from wm_gym.cli import main
from wm_gym.collect.record import record
from wm_gym.data import ClipData, open_clips
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.suite.inverse_benchmark import _r2, benchmark, impossible, readings, rejects
from wm_gym.inverse.fit import fit_inverse_dynamics, fit_motion, split_labels
from wm_gym.inverse.labeller import Rejected, VideoLabeller, fit_real_actions, label_dataset, train_labeller
from wm_gym.models.inverse_dynamics import KINDS, InverseDynamics
from wm_gym.wrappers import RealActions


@pytest.fixture(scope="module")
def push_dataset(tmp_path_factory):
    """40 episodes of 2 s of all scripted policies with Push's twin."""
    return record(
        "wm_gym/PushPyBullet-v0",
        40,
        "mix",
        out=tmp_path_factory.mktemp("data") / "push",
        seed=5,
        workers=0,
        progress=False,
        env_kwargs={"max_episode_steps": 20},
    )


@pytest.fixture(scope="module")
def clips(push_dataset) -> ClipData:
    return open_clips(push_dataset, progress=False)


@pytest.fixture(scope="module")
def labeller(clips, tmp_path_factory) -> VideoLabeller:
    return train_labeller(clips, tmp_path_factory.mktemp("idm") / "pair", "pair", updates=150, window=5, progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_what_the_frames_show(clips, kind):
    taught, held = split_labels(clips)
    torch.manual_seed(0)
    latent = kind == "latent"  # nobody tells it while it learns: it is later, and then at once
    made = fit_inverse_dynamics(clips, taught, kind, updates=200 if latent else 120, window=5, progress=False)
    rows = clips.episode_offset[held][:, None] + np.arange(21)
    about = {"action_low": clips.meta["action_low"], "action_high": clips.meta["action_high"]}
    found = readings(VideoLabeller(made, about), clips, held)
    assert found["r2_carried_out"] > (0.3 if latent else 0.4), (kind, found)
    backwards = VideoLabeller(made, about).read(clips.frames[rows[0]][::-1])
    assert np.corrcoef(backwards[::-1].ravel(), clips.action[rows[0, :-1]].ravel())[0, 1] < 0, "time runs one way"


def test_what_is_read_does_not_depend_on_what_was_read_before(labeller, clips):
    video = np.asarray(clips.frames[:21])
    first = labeller.read(video)
    labeller.read(video[::-1].copy())
    assert first.shape == (20, 2) and (labeller.read(video) == first).all()
    assert labeller.read(video[:2]).shape == (1, 2), "shorter than the window"


def test_motion_is_fitted_where_the_robot_did_as_it_was_told(clips):
    rows = np.concatenate([np.arange(a, b - 1) for a, b in zip(clips.episode_offset[:-1], clips.episode_offset[1:])])
    motion = fit_motion(clips, rows)
    assert motion[:2, :2] == pytest.approx(0.02 * np.eye(2), abs=5e-4), "2 cm a step, although walls stop some"


def test_a_saved_one_reads_the_same(labeller, clips, tmp_path):
    labeller.save(tmp_path / "again")
    again, video = VideoLabeller.load(tmp_path / "again"), np.asarray(clips.frames[:21])
    assert (again.read(video) == labeller.read(video)).all() and again.about == labeller.about


def test_real_video_is_labelled_and_impossible_video_refused(labeller, clips):
    asked, (taught, held) = Episodes.of(clips, 20), split_labels(clips)
    for e in held:
        labeller.label(asked.frames[e])  # believed
    env = gym.make(clips.meta["env_id"], render_mode="rgb_array").unwrapped
    broken = impossible(asked, env)
    env.close()
    refused = {what: np.mean([rejects(labeller, video) for video in videos]) for what, videos in broken.items()}
    assert set(refused) == {"spliced", "teleport", "off its kinematics", "disappearance", "duplication"}
    assert refused["spliced"] > 0.7 and refused["off its kinematics"] > 0.7, refused
    video = asked.frames[held[0]].copy()
    video[10:] = asked.frames[taught[0]][10:]
    with pytest.raises(Rejected, match=r"from frame 9 to the next"):
        labeller.label(video)


def test_a_world_notices_an_object_that_leaps(clips, push_like, tmp_path):
    world = str(push_like.folder)
    made = train_labeller(clips, tmp_path / "idm", "pair", updates=60, window=5, world=world, progress=False)
    assert set(made.about["limits"]) == {"jump", "kinematics", "surprise"}
    video = np.asarray(clips.frames[:21])
    stolen = video.copy()
    stolen[12:, 20:44, 20:44] = 255 - stolen[12:, 20:44, 20:44]
    before, after = (made.signs(v, made.read(v))["surprise"] for v in (video, stolen))
    assert (after[:11] == before[:11]).all() and after[11] > 1.5 * before.max()


def test_benchmark_tells_real_from_disturbed_video(labeller, clips):
    found = benchmark({"mine": labeller}, clips, episodes=6)["mine"]
    reading = found["reading"]
    assert reading["real"]["r2_carried_out"] > reading["noise of 25 levels"]["r2_carried_out"]
    assert reading["real"]["strict_carried_out"] >= reading["real"]["strict"]["mean"] - 0.05
    assert set(found["rejected"]) >= {"real", "spliced"} and found["rejected"]["real"]["n"] == 6


def test_r2_is_undefined_where_no_action_varies():
    true = np.stack([np.full(5, 0.3), np.arange(5.0)], 1)[None].astype(np.float32)
    every, first = np.ones((1, 5), bool), np.eye(1, 5, dtype=bool)
    assert _r2(true, true, every) == 1 and _r2(true + np.float32([0.2, 0]), true, every) == 1  # of the one that varies
    assert _r2(true[..., :1] + 0.2, true[..., :1], every) is None
    assert _r2(true, true, first) is None and _r2(true, true, ~every) is None


def test_label_writes_a_dataset_and_says_what_it_leaves_out(labeller, clips, tmp_path, capsys):
    labeller.save(tmp_path / "idm")
    record(
        clips.meta["env_id"],
        3,
        "mix",
        out=tmp_path / "videos",
        seed=7,
        workers=0,
        progress=False,
        env_kwargs={"max_episode_steps": 20},
    )
    kept, rejected = label_dataset(tmp_path / "videos", labeller, tmp_path / "labelled", progress=False)
    assert kept + len(rejected) == 3 and kept
    made, true = (open_clips(tmp_path / name, progress=False) for name in ("labelled", "videos"))
    assert made.action.shape[1] == 2 and made.meta["action_names"] == ["dx", "dy"]
    assert (
        np.corrcoef(
            made.action.ravel(),
            np.concatenate(
                [
                    true.action[a:b]
                    for e, (a, b) in enumerate(zip(true.episode_offset[:-1], true.episode_offset[1:]))
                    if e not in rejected
                ]
            ).ravel(),
        )[0, 1]
        > 0.6
    )
    assert (
        main(
            [
                "idm",
                "label",
                str(tmp_path / "videos"),
                "--idm",
                str(tmp_path / "idm"),
                "--out",
                str(tmp_path / "labelled"),
            ]
        )
        == 2
    )
    assert "is there; choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--kind", "crystal"], "choose one of pair, video"),
        (["--labels", "0"], "expected a share above 0"),
        (["--window", "500"], "none of"),
    ],
)
def test_what_cannot_be_trained_is_said(argv, says, push_dataset, tmp_path, capsys):
    assert main(["idm", "train", str(push_dataset), "--out", str(tmp_path / "idm"), *argv]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "idm").exists()


def test_a_damaged_folder_and_a_strange_video_are_named(labeller, tmp_path):
    with pytest.raises(FileNotFoundError, match="wm-gym idm train"):
        VideoLabeller.load(tmp_path)
    labeller.save(tmp_path / "idm")
    about = tmp_path / "idm" / "inverse_dynamics.json"
    about.write_text(json.dumps({}))
    with pytest.raises(ValueError, match="train it again"):
        VideoLabeller.load(tmp_path / "idm")
    for video in (np.zeros((5, 32, 32, 3), np.uint8), np.zeros((1, 64, 64, 3), np.uint8), np.zeros((5, 64, 64, 3))):
        with pytest.raises(ValueError, match="expected uint8"):
            labeller.read(video)
    with pytest.raises(ValueError, match="even sides"):
        InverseDynamics("pair", (63, 64))


@pytest.fixture(scope="module")
def latent(clips, tmp_path_factory) -> VideoLabeller:
    return train_labeller(
        clips, tmp_path_factory.mktemp("latent") / "idm", "latent", labels=0, updates=150, window=3, progress=False
    )


def test_latent_actions_of_video_alone_tell_the_real_ones(latent, clips):
    assert latent.about["action_names"] == ["latent_0", "latent_1"] and latent.about["episodes"] == 0
    taught, held = split_labels(clips)
    found = fit_real_actions(latent, clips, taught[:6])
    read = np.concatenate(
        [latent.read(np.asarray(clips.frames[clips.episode_offset[e] : clips.episode_offset[e + 1]])) for e in held]
    )
    rows = np.concatenate([np.arange(clips.episode_offset[e], clips.episode_offset[e + 1] - 1) for e in held])
    mapped = np.c_[clips.action[rows], np.ones(len(rows))] @ np.array(found["matrix"])
    assert np.corrcoef(mapped.ravel(), read.ravel())[0, 1] > 0.6 and np.abs(read).mean() < 1


def test_a_world_of_latent_actions_is_played_with_real_ones(latent, clips, push_dataset, tmp_path):
    """A world that has seen video alone, played with real actions, goes where they point."""
    latent.save(tmp_path / "idm")
    dataset, video, real = str(push_dataset), str(tmp_path / "labelled"), str(tmp_path / "map.json")
    assert main(["idm", "label", dataset, "--idm", str(tmp_path / "idm"), "--out", video]) == 0
    assert main(["idm", "map", str(tmp_path / "idm"), dataset, "--episodes", "6", "--out", real]) == 0
    sizes = {"tokenizer_batch": 16, "dynamics_batch": 16, "heads_updates": 5, "uncertainty_updates": 5}
    to = ["--out", str(tmp_path / "world")]
    assert main(["train", video, *to, "--preset", "tiny", "--cpu", *flags(**sizes)]) == 0
    env = RealActions(gym.make("wm_gym/World-v0", world=str(tmp_path / "world")), real)
    assert env.action_space.shape == (2,) and env.action(np.float32([1, 0])) in env.env.action_space
    assert not np.allclose(env.action(np.float32([1, 0])), env.action(np.float32([-1, 0])), atol=0.1)
    truer = []
    for e in split_labels(clips)[1]:
        rows = slice(clips.episode_offset[e], clips.episode_offset[e + 1])
        frames, actions = np.asarray(clips.frames[rows]), np.asarray(clips.action[rows])[:-1]
        made = []
        for sign in (1, -1):
            env.reset(seed=0, options={"image": frames[0]})
            made.append([env.step(sign * action)[0] for action in actions[:8]])
        error = np.abs(np.array(made, float) - frames[1:9]).mean((2, 3, 4))
        truer.append((error[1] - error[0]).mean())
    assert np.mean(truer) > 0, truer


def test_maps_of_real_actions_are_refused_where_they_do_not_fit(latent, clips, push_dataset, tmp_path):
    latent.save(tmp_path / "idm")
    assert (
        main(
            [
                "idm",
                "map",
                str(tmp_path / "idm"),
                str(push_dataset),
                "--episodes",
                "6",
                "--out",
                str(tmp_path / "map.json"),
            ]
        )
        == 0
    )
    with pytest.raises(ValueError, match="maps 2 actions to 2, this world takes 3"):
        RealActions(gym.make("wm_gym/Reach-v0"), tmp_path / "map.json")
    (tmp_path / "map.json").write_text("{}")
    with pytest.raises(ValueError, match="maps no actions"):
        RealActions(gym.make("wm_gym/Push-v0"), tmp_path / "map.json")
    with pytest.raises(FileNotFoundError, match="wm-gym idm map"):
        RealActions(gym.make("wm_gym/Push-v0"), tmp_path / "none.json")
    with pytest.raises(ValueError, match="0 with the kind 'latent'"):
        train_labeller(clips, tmp_path / "x", "pair", labels=0, progress=False)
