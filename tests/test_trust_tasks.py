"""Is every task of the trust suite measured from end to end? On a tiny world that has all that they ask for."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch

from wm_gym.collect.record import record
from wm_gym.evaluation.probes.inverse import fit_inverse
from wm_gym.evaluation.report.page import write_trust_report
from wm_gym.evaluation.suite.context import Size
from wm_gym.evaluation.suite.suite import evaluate
from wm_gym.evaluation.suite.tasks import TASKS
from wm_gym.models.i3d import I3D
from wm_gym.models.st_lpips import STLPIPS

FEW = Size(episodes=6, long_episodes=3, guarantee_episodes=4, decoder_episodes=6, decoder_updates=60, starts=16)
STEPS = 30


class CoarseI3D(I3D):
    """I3D that looks at every fourth row and column: at all of them a clip takes it a second."""

    def __init__(self):
        super().__init__()
        self.trunk.AvgPool3d = torch.nn.AdaptiveAvgPool3d(1)

    def forward(self, video):
        return self.trunk(video[..., ::4, ::4]).mean((2, 3, 4))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Where all tasks are kept, and the recordings that they share."""
    return tmp_path_factory.mktemp("evaluation")


def undefined(found, at=""):
    """Where a result says that it could not be measured, and why."""
    if isinstance(found, dict):
        if found.get("undefined"):  # of a time to failure it is None where there is one
            yield at, found["undefined"]
        for key, value in found.items():
            yield from undefined(value, f"{at}/{key}")
    elif isinstance(found, list):
        for n, value in enumerate(found):
            yield from undefined(value, f"{at}/{n}")


def right(name: str, found: dict) -> None:
    """What a task must find, however bad the world is: of physics, of controls, of what is perfect by definition."""
    match name:
        case "fidelity":
            assert found["episodes"] == 6 and found["horizons"] == [1, 10, 25, 30]
            first = found["looks"]["at_1"]
            assert first["tokenizer"]["psnr_db"] > 10 and first["frozen"]["st_lpips"] >= 0
            assert set(found["fvd"]["at_25"]["of"]) == {"world", "frozen", "tokenizer", "floor"}
        case "drift" | "agent_drift":
            assert found["at"]["5s"]["physics"]["psnr_db"]["mean"] > 60  # the recording itself
            assert found["at"]["30s"]["physics"]["mask_iou"]["mean"] == 1
            assert found["at"]["30s"]["frozen"]["mask_iou"]["mean"] < 0.9
            assert found["at"]["5s"]["perturbed"]["lost"]["rate"] == 0
        case "control":
            gain = found["delta_psnr"]
            assert gain["physics"]["psnr_true_db"]["mean"] > 60 > gain["world"]["psnr_true_db"]["mean"]
            assert gain["physics"]["shuffled"]["mean"] > gain["world"]["shuffled"]["mean"]
            assert found["no_op"]["physics"]["frame_change"]["mean"] < 1
            assert found["distractor"]["counted"]["n"]
        case "inverse":
            made = found["made"]["world"]["at_1"]
            assert np.isfinite(made["excess"]["mean"]) and set(found["real"]["mae"]) == {"dx", "dy"}
            assert found["made"]["shuffle"]["at_1"]["error"]["mean"] > 0
        case "judge":
            assert found["episodes"] == 6 and len(found["judgements"]) == 4
            assert all(0 <= row["wrong"]["rate"] <= 1 for row in found["judgements"].values())
        case "physics_iq":
            score = {name: one["score"] for name, one in found["of"].items()}
            assert score["other take"] == pytest.approx(100) and score["frozen"] < 60
            assert score["world"] < 100
        case "violations":
            assert found["per_100_frames"]["frozen"] >= found["per_100_frames"]["physics"] >= 0
            assert found["episodes"] == 3 and found["steps"] == STEPS and len(found["worst"]) <= 12
            assert set(found["detector"]) and set(found["limits"])
        case "uncertainty":
            assert found["episodes"] == 4 and set(found["ranks"]) == {"at_1", "at_10", "at_25", "at_30"}
            assert found["coverage"] and found["limit"]["n"] == 4 and found["trust"]["moments"] > 0
        case "shifts":
            assert set(found["visible"]) == {"size", "colour", "lighting", "camera", "stranger"}
            assert set(found["hidden"]) == {"mass", "friction"}
            assert all(0 <= row["auroc"] <= 1 for row in found["hidden"].values())
        case _:
            raise AssertionError(f"say here what {name} must find")


@pytest.fixture
def cheap(monkeypatch):
    """Recordings are made in this process, the metrics' published networks have random weights, and actions are read
    by a network that has hardly learned: whether those are right is their own tests' question."""

    def random(network):
        def load(*_):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return network().eval()

        return load

    monkeypatch.setattr("wm_gym.evaluation.suite.context.record", partial(record, workers=0, progress=False))
    monkeypatch.setattr("wm_gym.evaluation.suite.tasks.fit_inverse", partial(fit_inverse, updates=20))
    monkeypatch.setattr("wm_gym.evaluation.suite.tasks.load_i3d", random(CoarseI3D))
    monkeypatch.setattr("wm_gym.evaluation.suite.tasks.load_st_lpips", random(STLPIPS))


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_measured(name, push_like, out, cheap):
    world, agent = push_like.folder, push_like.agent
    evaluate(world, out=out, only=[name], agent=agent, size=FEW, workers=1, progress=False)
    found = json.loads((out / f"{name}.json").read_text())["result"]
    assert not dict(undefined(found))
    right(name, found)


@pytest.mark.slow
def test_the_report_shows_every_task(push_like, out, cheap):
    world, agent = push_like.folder, push_like.agent
    evaluate(world, out=out, agent=agent, size=FEW, workers=1, progress=False)
    html = write_trust_report(out).read_text()
    assert "Undefined: " not in html and "PushLike-v0" in html
    assert np.load(out / "films.npz")["worst_frames"].shape[1] == 2
