"""Does the shipped text judge see what a sentence says, also in words that it was not taught?"""

from __future__ import annotations

import importlib.util

import gymnasium as gym
import numpy as np
import pytest
import torch

import wm_gym  # noqa: F401, registers the worlds
from wm_gym.collect.record import record
from wm_gym.data import open_clips
from wm_gym.evaluation.trust.coverage import auroc
from wm_gym.judges import make_judge, text_model
from wm_gym.judges.captions import HELD_OUT, RELATIONS, margins
from wm_gym.judges.text_model import embed
from wm_gym.judges.text_training import Scenes, fit_text_margin
from wm_gym.judges.wordings import OTHER_WORDS, PHRASES, sentences
from wm_gym.models.tokenizer import to_float

PROMPT = "text:the yellow block is on the blue disc"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """16 whole episodes of the expert and of those that fail in Push's twin."""
    return open_clips(
        record(
            "wm_gym/PushPyBullet-v0",
            16,
            "mix",
            out=tmp_path_factory.mktemp("text") / "push",
            seed=77,
            workers=0,
            progress=False,
        ),
        progress=False,
    )


@pytest.mark.release
def test_it_tells_success_in_physics(clips):
    verdict = make_judge(PROMPT)(np.asarray(clips.frames))
    assert auroc(verdict.score[~clips.success], verdict.score[clips.success]) > 0.97
    assert (verdict.success == clips.success).mean() > 0.9
    assert 0 <= verdict.progress.min() < 0.5 < verdict.progress.max() <= 1


@pytest.mark.release
def test_progress_grows_as_the_block_comes_nearer(clips):
    verdict = make_judge(PROMPT)(np.asarray(clips.frames))
    distance = -margins("push", np.asarray(clips.physics_state), clips.proprioception)["on goal"]
    assert np.corrcoef(verdict.progress, distance)[0, 1] < -0.9


@pytest.mark.parametrize("said", ["the yellow cube has arrived at the target", "slide the block over to the blue disc"])
def test_other_words_mean_the_same(clips, said):
    score = make_judge(f"text:{said}")(np.asarray(clips.frames)).score
    assert auroc(score[~clips.success], score[clips.success]) > 0.9


@pytest.mark.release
def test_opposites_are_told_apart(clips):
    right = margins("push", np.asarray(clips.physics_state), clips.proprioception)["hand right of goal"]
    clear = np.abs(right) > 1
    for side, sign in (("left", -1), ("right", 1)):
        score = sign * make_judge(f"text:the hand is to the {side} of the blue disc")(np.asarray(clips.frames)).score
        assert auroc(score[clear & (right < 0)], score[clear & (right > 0)]) > 0.9, side


def test_a_world_pays_by_it():
    env = gym.make("wm_gym/Push-v0", reward=PROMPT)
    _, info = env.reset(seed=0)
    before = info["judge/progress"]
    _, reward, _, _, info = env.step(env.action_space.sample())
    assert reward == pytest.approx(info["judge/progress"] - before + float(info["success"]), abs=1e-6)
    env.close()


def test_wordings_are_kept_apart():
    for task in RELATIONS:
        for relation in RELATIONS[task]:
            taught, other = set(sentences(relation)), set(sentences(relation, taught=False))
            assert taught and other and not taught & other, relation
    taught = " ".join(sum((sentences(name) for name in PHRASES), []))
    assert not [word for words in OTHER_WORDS.values() for word in words if f"the {word} " in taught]
    assert set(HELD_OUT) <= {name for task in RELATIONS.values() for name in task}


@pytest.mark.slow
def test_it_learns_from_scratch(clips):
    made = fit_text_margin([Scenes.of("push", clips)], updates=200, frames=32, progress=False)
    truth = margins("push", np.asarray(clips.physics_state), clips.proprioception)["on goal"][::5].clip(-8, 2)
    said = torch.from_numpy(embed(["the block is on the disc"]))
    found = made(to_float(torch.from_numpy(np.array(clips.frames[::5]))), said)[:, 0].numpy()
    assert np.corrcoef(found, truth)[0, 1] > 0.3 and np.abs(found - truth).mean() < np.abs(truth).mean()


def test_what_it_cannot_judge_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="lacks what stands behind the colon"):
        make_judge("text: ")
    with pytest.raises(ValueError, match="the text judge was trained on 64 x 64"):
        make_judge(PROMPT)(np.zeros((1, 96, 96, 3), np.uint8))
    with pytest.raises(ValueError, match="threshold is -20"):
        make_judge(PROMPT, threshold=-20.0)
    with pytest.raises(ValueError, match="no captions; those of push"):
        margins("stack", np.zeros((1, 30)), np.zeros((1, 3)))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if "minilm" in name else find(name, *a))
    text_model._sentence_model.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'wm-gym\[judges\]'"):
        make_judge("text:anything")
