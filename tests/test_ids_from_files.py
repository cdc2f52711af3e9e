"""Does what a file says import anything, or lead out of its folder? A module that leaves a trace says so."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from tiny_bases import write_svd
from twins import PUSH

import wm_gym
from wm_gym.cli import main
from wm_gym.collect.record import record
from wm_gym.common.registry import find_spec, registered
from wm_gym.data import LeRobotReader
from wm_gym.data.clips import ClipData
from wm_gym.data.formats.lerobot_schema import DatasetError
from wm_gym.evaluation.jobs import Job, run_jobs
from wm_gym.evaluation.judges.confusion import physics_success
from wm_gym.evaluation.suite.context import Context, shifted_twin, starts_of
from wm_gym.evaluation.suite.suite import evaluate
from wm_gym.models.pretrained import family_of
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_agent, evaluate_matched
from wm_gym.policies.planner import save_planner
from wm_gym.policies.recipe import env_wrapper
from wm_gym.registration import recorded_twin, registered_source
from wm_gym.worlds.spec import WorldSpec

EVIL, DRESSED = "evilmod:x/Evil-v0", f"evilmod:{PUSH}"
REFUSED = "`import evilmod`.*`--import evilmod`"
MODULE = """
import pathlib
import gymnasium
pathlib.Path({trace!r}).touch()
gymnasium.register("x/Evil-v0", entry_point="ball_env:BallEnv", max_episode_steps=4)
gymnasium.register("x/Twin-v0", entry_point="wm_gym.physics.twin:PandaTwin")
"""


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """Where the module `evilmod`, and one called as its ids' namespace, say that they were imported."""
    trace = tmp_path / "imported"
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    (tmp_path / "modules").mkdir()
    for name in ("evilmod", "x"):
        (tmp_path / "modules" / f"{name}.py").write_text(MODULE.format(trace=str(trace)))
    typed = list(wm_gym.common.registry.TYPED)
    yield trace
    for name in ("evilmod", "x"):
        sys.modules.pop(name, None)
    for env_id in [one for one in gym.registry if one.startswith(("x/", "y/"))]:
        del gym.registry[env_id]
    wm_gym.common.registry.TYPED[:] = typed


def changed(path: Path, **values) -> Path:
    """A YAML or JSON file with other values; returns its folder."""
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))
    return path.parent


@pytest.fixture
def agent(repository, tmp_path):
    return changed(
        shutil.copytree(repository / "agents" / "ppo-Reach-v0", tmp_path / "agent") / "config.yml", env_id=EVIL
    )


@pytest.fixture
def evil_world(tiny_world_folder, tmp_path):
    return changed(shutil.copytree(tiny_world_folder, tmp_path / "world") / "spec.yaml", twin=EVIL)


def test_an_agents_id(agent, trace):
    loaded = load_agent(agent)  # its tensors and spaces are known without its environment
    for use in (
        lambda: loaded.world,
        lambda: evaluate_agent(loaded, "wm_gym/ReachPyBullet-v0"),
        lambda: record("wm_gym/ReachPyBullet-v0", 1, f"agent:{agent}", out=agent / "data", workers=0),
    ):
        with pytest.raises(ValueError, match=f"config.yml: env_id is '{EVIL}'.*{REFUSED}"):
            use()
    assert not trace.exists()


@pytest.mark.parametrize("env_id", [EVIL, "x/Evil-v0", "evilmod:x:y/Evil-v0", "x'; import os/Evil-v0", 5, ["x/Y-v0"]])
def test_a_planners_id(tiny_world_folder, tmp_path, trace, env_id):
    folder = save_planner(tiny_world_folder, tmp_path / "planner")
    changed(folder / "config.yml", env_id=env_id)
    with pytest.raises(ValueError, match="config.yml: env_id is"):
        load_agent(folder)
    assert not trace.exists()


def test_a_worlds_twin(evil_world, tmp_path, trace, capsys):
    with pytest.raises(ValueError, match=f"spec.yaml: twin is '{EVIL}'.*{REFUSED}"):
        evaluate(evil_world, out=tmp_path / "out")
    assert main(["evaluate", str(evil_world), "--out", str(tmp_path / "out")]) == 2
    assert "--import evilmod" in capsys.readouterr().err
    context = Context(evil_world, EVIL, tmp_path / "out")
    for use in (
        lambda: context.env,
        lambda: context.held,
        lambda: starts_of(EVIL, None, 1, 0),
        lambda: shifted_twin(EVIL, "size"),
    ):
        with pytest.raises(ValueError, match=REFUSED):
            use()
    with pytest.raises(ValueError, match="which is not registered"):
        evaluate_matched("ppo-Reach-v0", evil_world)
    assert not trace.exists()
    changed(evil_world / "spec.yaml", twin=DRESSED)  # what is registered already is taken without its module
    assert registered_source(WorldSpec.load(evil_world)) == PUSH and registered(DRESSED, "twin").id == PUSH
    assert not trace.exists()


def test_a_worlds_name_leads_nowhere(evil_world, tmp_path, monkeypatch):
    monkeypatch.chdir(evil_world)
    changed(evil_world / "spec.yaml", twin=PUSH, name="../../out")
    assert evaluate(evil_world, only=[]) == evil_world / "out-evaluation"


def test_a_recordings_id(trace):
    env = gym.make(PUSH, render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    states, frames = np.stack([env.get_physics_state()] * 3), np.stack([env.render()] * 3)
    env.close()
    nothing = np.zeros((3, 2), np.float32)
    clips = ClipData(
        frames,
        nothing,
        nothing,
        nothing,
        np.zeros(3, bool),
        np.zeros(3, bool),
        np.array([0, 3]),
        states,
        np.zeros(1, bool),
        {"has_success": False, "dataset": "push", "env_id": DRESSED, "env_kwargs": {}},
    )
    assert physics_success(clips, [(0, 3)]).tolist() == [False] * 3
    env = recorded_twin(clips.meta)  # that the benchmark of inverse dynamics takes
    assert env.spec.id == PUSH
    env.close()
    with pytest.raises(ValueError, match="push: wm_gym.env_kwargs is .*'nonsense'"):
        physics_success(replace(clips, meta=clips.meta | {"env_kwargs": {"nonsense": 1}}), [(0, 3)])
    with pytest.raises(ValueError, match="tells no success"):
        physics_success(replace(clips, meta=clips.meta | {"env_id": EVIL}), [(0, 3)])
    assert not trace.exists()


def test_a_job_files_function(tmp_path, trace):
    job = Job(tmp_path / "kept.json", "wm_gym.registration:is_twin", {"env_id": PUSH})
    job.path.write_text(json.dumps({"function": "evilmod:run", "arguments": {"env_id": PUSH}, "result": {}}))
    with pytest.raises(ValueError, match="evilmod:run"):
        run_jobs([job], workers=1, progress=False)
    assert not trace.exists()


@pytest.mark.parametrize("env_kwargs", [{"monitor_file": "FILE"}, {"wrapper_class": "evilmod.W"}, ["world"], "world"])
def test_an_agents_arguments_say_nothing_of_files(agent, tmp_path, env_kwargs):
    """`monitor_file` would be written to."""
    told = changed(agent / "config.yml", env_id="wm_gym/ReachPyBullet-v0", learned=False, env_kwargs=env_kwargs)
    with pytest.raises(ValueError, match="config.yml: env_kwargs is"):
        evaluate_agent(load_agent(told), "wm_gym/ReachPyBullet-v0", 1)


@pytest.mark.parametrize(
    "path",
    [
        "evilmod.Wrapper",
        "wm_gym.evilmod.Wrapper",
        "wm_gym.policies.rollouts.LatentView",
        "gymnasium.utils.play.Play",
        "gymnasium.wrappers.evilmod.Wrapper",
        "wm_gym.wrappers.gym",
        "wm_gym.wrappersevil.Wrapper",
        5,
    ],
)
def test_an_agents_wrapper(trace, path):
    before = set(sys.modules)
    with pytest.raises(ValueError, match="wm_gym.wrappers.DiscreteActions"):
        env_wrapper(path)
    assert not trace.exists() and set(sys.modules) <= before | {"wm_gym.wrappers"}


def test_a_minari_datasets_environment(tmp_path, monkeypatch, trace):
    pytest.importorskip("minari")
    from test_formats import minari_dataset

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    minari_dataset(tmp_path)
    path = tmp_path / "dots-v0" / "data" / "metadata.json"
    spec = gym.envs.registration.EnvSpec("x/Evil-v0", entry_point="evilmod:Env")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"env_spec": spec.to_json()}))
    from wm_gym.data.formats.registry import open_reader

    with pytest.raises(DatasetError, match=r"--import x.*--fps 20"):
        open_reader(tmp_path / "dots-v0")
    assert not trace.exists()
    gym.register("x/Evil-v0", entry_point="ball_env:BallEnv")  # whose frame rate it is then
    assert open_reader(tmp_path / "dots-v0").fps == 10
    assert not trace.exists()


def test_a_pipelines_components(tiny_world_folder, tmp_path, trace):
    from wm_gym.pipeline import WorldPipeline

    world = shutil.copytree(tiny_world_folder, tmp_path / "world")
    base = write_svd(tmp_path / "base")
    assert family_of(base) == "svd"
    for folder, load in ((world, WorldPipeline.from_pretrained), (base, family_of)):
        path = folder / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"scheduler": ["evilmod", "Scheduler"]}))
        with pytest.raises(ValueError, match="model_index.json: scheduler is .*evilmod"):
            load(folder)
    assert not trace.exists()


def test_a_lerobot_policys_steps(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "type": "act",
                "input_features": {"observation.images.main": {"type": "VISUAL", "shape": [3, 64, 64]}},
                "output_features": {},
            }
        )
    )
    (tmp_path / "model.safetensors").touch()
    load_agent(tmp_path)
    (tmp_path / "policy_preprocessor.json").write_text(
        json.dumps(
            {
                "steps": [
                    {"registry_name": "normalizer_processor"},
                    {"class": "lerobot.processor.X"},
                    {"class": "evilmod.Step"},
                ]
            }
        )
    )
    with pytest.raises(ValueError, match="policy_preprocessor.json.*evilmod.Step"):
        load_agent(tmp_path)


def test_a_camera_that_leads_out_of_its_dataset(balls, tmp_path):
    """A shard that no dataset of ours holds lies where such a name leads: going on with it would remove it."""
    root = shutil.copytree(balls, tmp_path / "sets" / "set")
    beside = tmp_path / "chunk-999" / "file-999.mp4"
    beside.parent.mkdir()
    beside.touch()
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["../../../"] = info["features"].pop("observation.images.main")
    (root / "meta" / "info.json").write_text(json.dumps(info))
    for use in (lambda: LeRobotReader(root), lambda: record("ball_env:wm_gym_test/Ball-v0", 41, out=root, workers=0)):
        with pytest.raises(DatasetError, match="leads out of the dataset's folder"):
            use()
    assert beside.exists()


@pytest.mark.parametrize(
    "template",
    [
        "{0.__class__}",
        "{episode_index:>999999999}",
        "{video_key.__init__.__globals__}",
        "/etc/passwd",
        "../{chunk_index}",
        "{chunk_index!r}",
        "a\0b",
        5,
    ],
)
def test_a_datasets_path_templates(balls, tmp_path, template):
    root = shutil.copytree(balls, tmp_path / "set")
    info = json.loads((root / "meta" / "info.json").read_text())
    for key in ("data_path", "video_path"):
        (root / "meta" / "info.json").write_text(json.dumps(info | {key: template}))
        with pytest.raises(DatasetError, match="path|missing"):
            LeRobotReader(root)


def test_a_typed_namespace_that_is_a_module_is_imported(trace):
    with pytest.raises(gym.error.UnregisteredEnv, match="Nothing-v0"):
        find_spec("nosuchmod/Nothing-v0")
    assert find_spec("x/Evil-v0").id == "x/Evil-v0" and trace.exists()


def test_what_is_typed_is_imported_here_and_in_workers(agent, tmp_path, monkeypatch, trace):
    assert find_spec("evilmod:x/Evil-v0").id == "x/Evil-v0" and trace.exists()
    assert load_agent(agent).world == load_agent("ppo-Reach-v0").env_kwargs.get("world")  # its id is known now
    gym.register("y/Own-v0", entry_point=wm_gym.registration.TWIN_ENTRY_POINT)  # by no module that was typed
    trace.unlink()
    jobs = [
        Job(tmp_path / f"{k}.json", "wm_gym.registration:is_twin", {"env_id": env_id})
        for k, env_id in enumerate(("x/Twin-v0", "y/Own-v0", "z/None-v0"))
    ]
    assert run_jobs(jobs, workers=2, progress=False) == [True, True, False] and trace.exists()


def test_the_command_lines_import(tmp_path, monkeypatch, trace, capsys):
    assert main(["report", str(tmp_path)]) == 2 and not trace.exists()
    assert main(["report", str(tmp_path), "--import", "nosuchmod"]) == 2
    assert "nosuchmod" in capsys.readouterr().err
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(tmp_path / "modules")])
    monkeypatch.chdir(tmp_path / "modules")  # from the working directory, as a script's own module
    assert main(["report", str(tmp_path), "--import", "evilmod", "--import", "json"]) == 2
    assert trace.exists() and "x/Evil-v0" in gym.registry


@pytest.mark.parametrize("env_id", ["evilmod:x/Evil-v0", "x/Evil-v0"])
def test_typed_ids_are_recorded(tmp_path, trace, env_id):
    out = record(env_id, 1, out=tmp_path / "data", workers=0, progress=False)
    assert trace.exists() and LeRobotReader(out).info["wm_gym"]["env_id"] == env_id


def test_no_environment_is_made_of_a_plain_string(repository):
    """gym.make and its like import what a string names: they are given a literal, or a spec that was looked up."""
    calls = [
        call
        for path in sorted((repository / "wm_gym").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("gym.make", "gym.make_vec", "gym.spec")
    ]
    names = ("spec", "self.spec", "name")  # find_spec looks a name up that holds no module
    for first in (call.args[0] for call in calls):
        assert (
            isinstance(first, (ast.Constant, ast.JoinedStr))
            or ast.unparse(first) in names
            or ast.unparse(first).startswith(("find_spec(", "registered(", "twin_spec("))
        ), ast.unparse(first)
    assert len(calls) > 8
