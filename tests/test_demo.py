"""Does the one command that shows everything leave what it promises, on time?"""

from __future__ import annotations

import json
import time

import pytest

from wm_gym.cli import main
from wm_gym.policies.loaders import load_agent
from wm_gym.rl.demo import demo


@pytest.mark.release
def test_the_demo_trains_evaluates_and_reports(tmp_path):
    started = time.monotonic()
    report = demo(tmp_path, minutes=0.001, episodes=2, timesteps=10**6)
    assert time.monotonic() - started < 300, "the training ended at its limit"
    agent, results = load_agent(tmp_path / "agent"), json.loads((tmp_path / "results.json").read_text())
    assert 0 < agent.config["n_timesteps"] < 10**6 and agent.env_id == "wm_gym/Reach-v0"
    assert results["episodes"] == 2 and "random" in json.dumps(results)
    html = report.read_text()
    assert report == tmp_path / "report.html" and "wm_gym/Reach-v0" in html
    assert all((tmp_path / f"side-by-side.{kind}").stat().st_size > 1000 for kind in ("mp4", "gif"))


def test_a_world_that_is_not_shipped_is_named(tmp_path, capsys):
    with pytest.raises(ValueError, match="'wm_gym/Nothing-v0' is not in the catalogue .*'Reach-v0'"):
        demo(tmp_path / "out", env_id="wm_gym/Nothing-v0")
    assert main(["demo", "--env", "wm_gym/Nothing-v0", "--out", str(tmp_path / "out")]) == 2
    assert "is not in the catalogue" in capsys.readouterr().err and not (tmp_path / "out").exists()
