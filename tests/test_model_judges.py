"""Do the judges that are models of transformers read what the models say? Tiny ones of the real classes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_vlms import write_clip, write_idefics, write_llava, write_siglip

from wm_gym.env import WorldEnv
from wm_gym.judges import make_judge
from wm_gym.judges.clip import BASELINE
from wm_gym.judges.vlm import GRADE, INTRODUCTION, QUESTIONS, enlarged

transformers = pytest.importorskip("transformers")
PROMPT = "the block is on the green square"
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope="module", params=[write_clip, write_siglip])
def clip(request, tmp_path_factory):
    return str(request.param(tmp_path_factory.mktemp("clip") / "model"))


@pytest.fixture(scope="module", params=[write_llava, write_idefics])
def vlm(request, tmp_path_factory):
    return str(request.param(tmp_path_factory.mktemp("vlm") / "model"))


def cosines(folder: str) -> tuple[np.ndarray, float, float]:
    """[frames, prompt and baseline] by the model's own forward, the sentences' own, and the scale of the logits."""
    model, processor = (getattr(transformers, kind).from_pretrained(folder) for kind in ("AutoModel", "AutoProcessor"))
    with torch.inference_mode():
        inputs = processor(text=[PROMPT, BASELINE], images=list(FRAMES), return_tensors="pt", padding="max_length")
        out = model(**inputs)
        seen, words = out.image_embeds.numpy(), out.text_embeds.numpy()
        return seen @ words.T, float(words[0] @ words[1]), model.logit_scale.exp().item()


def test_clip_scores_are_those_of_the_paper(clip):
    seen, between, scale = cosines(clip)
    plain = make_judge(f"clip:{PROMPT}", model=clip, alpha=0.0, device="cpu")(FRAMES)
    np.testing.assert_allclose(plain.score, seen[:, 0], atol=1e-5)
    logits = scale * seen
    np.testing.assert_allclose(plain.progress, 1 / (1 + np.exp(logits[:, 1] - logits[:, 0])), atol=1e-4)
    assert not plain.success.any() and plain.score.std() > 1e-3
    projected = make_judge(f"clip:{PROMPT}", model=clip, alpha=1.0, device="cpu", batch=2)(FRAMES)
    way = (seen[:, 0] - seen[:, 1] - between + 1) / (2 - 2 * between)  # along the line from the baseline to the prompt
    np.testing.assert_allclose(projected.score, 1 - (1 - way) ** 2 * (2 - 2 * between) / 2, atol=1e-4)
    middle = np.median(projected.score)
    some = make_judge(f"clip:{PROMPT}", model=clip, alpha=1.0, device="cpu", threshold=float(middle))(FRAMES)
    assert some.success.sum() == 2


def test_clip_rewards_a_world(world, tmp_path):
    env = WorldEnv(
        world,
        backend="torch",
        reward=f"clip:{PROMPT}",
        reward_kwargs={"model": str(write_clip(tmp_path / "clip")), "device": "cpu"},
    )
    _, info = env.reset(seed=0)
    before = info["judge/progress"]
    _, reward, *_, info = env.step(np.ones(3, np.float32))
    assert reward == pytest.approx(info["judge/progress"] - before) and 0 < info["judge/progress"] < 1


def test_sentences_and_models_that_do_not_do(tmp_path, monkeypatch):
    folder = str(write_clip(tmp_path / "clip"))
    with pytest.raises(ValueError, match="behind the colon"):
        make_judge("clip: ")
    for kwargs, says in [
        ({"baseline": ""}, "baseline ''"),
        ({"alpha": 2}, "alpha is 2"),
        ({"batch": 0}, "batch is 0"),
        ({"baseline": PROMPT}, "mean the same"),
    ]:
        with pytest.raises(ValueError, match=says):
            make_judge(f"clip:{PROMPT}", model=folder, device="cpu", **kwargs)
    with pytest.raises(ValueError, match="reads 16"):
        make_judge("clip:" + "block " * 20, model=folder)
    with pytest.raises(FileNotFoundError, match="neither a folder nor"):
        make_judge(f"clip:{PROMPT}", model=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="hf download nobody/none"):
        make_judge("vlm:nobody/none", task=PROMPT)
    with pytest.raises(ValueError, match="does not load as AutoModelForImageTextToText"):
        make_judge(f"vlm:{folder}", task=PROMPT)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"wm-gym\[judges\]"):
        make_judge(f"clip:{PROMPT}", model="another")


def next_token(folder: str, start: np.ndarray, frame: np.ndarray, question: str):
    """Probabilities of the next token by the model's own forward, and the tokenizer."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    images = [Image.fromarray(enlarged(picture)) for picture in (start, frame)]
    message = [{"role": "user", "content": [*({"type": "image"} for _ in images), {"type": "text", "text": question}]}]
    text = processor.apply_chat_template(message, add_generation_prompt=True)
    with torch.inference_mode():
        logits = model(**processor(text=[text], images=[images], return_tensors="pt")).logits[0, -1]
    return logits.softmax(-1).numpy(), processor.tokenizer.convert_tokens_to_ids


def test_a_chat_model_is_read_by_its_tokens(vlm):
    judge = make_judge(f"vlm:{vlm}", task=PROMPT + ".", votes=2, device="cpu", batch=3)
    starts = FRAMES[[0, 0, 0, 1, 1]]
    verdict = judge(FRAMES, starts)
    told = INTRODUCTION.format(task=PROMPT)
    for i in (1, 4):
        votes = []
        for question, done in QUESTIONS[:2]:
            p, ids = next_token(vlm, starts[i], FRAMES[i], told + question)
            yes, no = (sum(p[ids(word)] for word in words) for words in (("yes", "Yes"), ("no", "No")))
            votes.append((yes if done == "yes" else no) / (yes + no))
        assert verdict.score[i] == pytest.approx(np.mean(votes), abs=1e-4)
        p, ids = next_token(vlm, starts[i], FRAMES[i], told + GRADE)
        grades = np.array([p[ids(digit)] for digit in "012345"])
        assert verdict.progress[i] == pytest.approx(grades @ np.arange(6) / grades.sum() / 5, abs=1e-4)
    np.testing.assert_array_equal(verdict.success, verdict.score > 0.5)
    alone = judge.look(FRAMES[4:], starts[4:])
    np.testing.assert_allclose(alone[0], verdict.score[4:], atol=1e-5)


def test_a_chat_model_needs_a_task_and_a_template(vlm, world):
    with pytest.raises(ValueError, match="does not know the task"):
        make_judge(f"vlm:{vlm}")
    with pytest.raises(ValueError, match="votes is 9"):
        make_judge(f"vlm:{vlm}", task=PROMPT, votes=9)
    env = WorldEnv(world, backend="torch", reward=f"vlm:{vlm}", reward_kwargs={"votes": 1, "device": "cpu"})
    assert "touch the red ball" in env.core.judged.judge.introduction
    env.reset(seed=0)
    assert 0 < env.step(np.ones(3, np.float32))[4]["judge/score"] < 1
