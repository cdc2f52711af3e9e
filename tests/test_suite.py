"""Does `evaluate` measure once, go on where it stopped, and say what is undefined?"""

from __future__ import annotations

import json

import numpy as np
import pytest
from twins import PUSH

from wm_gym.common.records import Undefined
from wm_gym.evaluation.report.page import write_trust_report
from wm_gym.evaluation.suite.context import Context, shifted_twin, starts_of
from wm_gym.evaluation.suite.options import Size
from wm_gym.evaluation.suite.suite import evaluate
from wm_gym.evaluation.suite.tasks import TASKS

FEW = Size(episodes=4, long_episodes=2, guarantee_episodes=4, decoder_episodes=4, decoder_updates=20, starts=3)


@pytest.fixture(scope="module")
def measured(push_like, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    assert evaluate(push_like.folder, out=out, only=["films", "uncertainty"], size=FEW, workers=1) == out
    return out


@pytest.mark.slow
def test_results_lie_in_files(measured):
    setting, found = (json.loads((measured / f"{name}.json").read_text()) for name in ("setting", "uncertainty"))
    found = found["result"]
    assert setting["world"] == "PushLike-v0" and setting["twin"] == PUSH and setting["fps"] == 10
    assert found["episodes"] == 4 and set(found["ranks"]) == {f"at_{t}" for t in (1, 10, 25, 30)}
    assert 0 < found["dense"]["autoregressive"]["ece"] < 1
    films = np.load(measured / "films.npz")
    assert films["world"].shape == films["physics"].shape == (4, 31, 64, 64, 3)
    assert films["uncertainty"].shape == (4, 30, 16, 16)
    np.testing.assert_array_equal(films["world"][:, 0], films["physics"][:, 0])


@pytest.mark.slow
def test_measured_tasks_are_not_measured_again(measured, push_like):
    path = measured / "uncertainty.json"
    kept = path.read_bytes()
    other = json.loads(kept)
    other["result"]["episodes"] = 44
    path.write_text(json.dumps(other))
    evaluate(push_like.folder, out=measured, only=["uncertainty"], size=FEW, progress=False)
    assert json.loads(path.read_text())["result"]["episodes"] == 44  # what is kept is taken
    other["arguments"]["weights"]["dynamics"] = "another world's"
    path.write_text(json.dumps(other))
    with pytest.raises(ValueError, match="another world's.*choose another --out"):
        evaluate(push_like.folder, out=measured, only=["uncertainty"], size=FEW, progress=False)
    path.write_bytes(kept)
    with pytest.raises(ValueError, match="was begun with other arguments: seed 0, now 1.*--out"):
        evaluate(push_like.folder, out=measured, only=["uncertainty"], size=FEW, seed=1, progress=False)


@pytest.mark.slow
def test_what_lacks_weights_says_how_to_get_them(measured, push_like, tmp_path, monkeypatch):
    monkeypatch.setenv("WM_GYM_CACHE", str(tmp_path))  # without weights
    context = Context(push_like.folder, PUSH, measured, FEW)
    fidelity = TASKS["fidelity"].measure(context)
    assert "python -m wm_gym.models.st_lpips" in fidelity.looks.undefined
    assert "python -m wm_gym.models.i3d" in fidelity.fvd["at_25"].undefined


def test_starts_differ_and_repeat():
    frames, poses = starts_of(PUSH, None, 2, seed=5)
    assert frames.shape == (2, 64, 64, 3) and poses.shape == (2, 3) and not np.array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(starts_of(PUSH, None, 2, seed=5)[0], frames)
    assert not np.array_equal(starts_of(PUSH, "colour", 2, seed=5)[0], frames)


def test_unknown_tasks_and_missing_twins_are_named(tiny_world_folder, tmp_path):
    with pytest.raises(ValueError, match="'beauty'.*unknown; choose of"):
        evaluate(tiny_world_folder, twin=PUSH, out=tmp_path, only=["beauty"])
    with pytest.raises(ValueError, match="names no environment"):
        evaluate(tiny_world_folder, out=tmp_path)


def test_an_agents_drift_needs_an_agent(tiny_world_folder, tmp_path):
    with pytest.raises(ValueError, match="--agent AGENT"):
        evaluate(tiny_world_folder, twin=PUSH, out=tmp_path, only=["agent_drift"])


def test_what_a_twin_lacks_is_undefined_and_the_report_says_so(world_folder, tmp_path):
    out = evaluate(
        world_folder, out=tmp_path, only=["drift", "judge", "physics_iq"], size=FEW, workers=1, progress=False
    )
    for name in ("drift", "judge"):
        assert "names no object" in json.loads((out / f"{name}.json").read_text())["result"]["undefined"]
    assert "cannot be shifted" in json.loads((out / "physics_iq.json").read_text())["result"]["undefined"]
    assert {file.name for file in (out / "recordings").iterdir()} <= {"held"}  # none in vain
    html = write_trust_report(out).read_text()
    assert html.count("Undefined: ") == 3
    with pytest.raises(Undefined, match="CartPole-v1 cannot be shifted"):
        shifted_twin("CartPole-v1", "size")
