"""Are jobs answered alike in every mode, kept over errors and interruptions, and asked once?"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wm_gym.evaluation.jobs import Job, run_jobs

HERE = Path(__file__).parent


def threads_and_sum(values, note=None):
    """A job: what it got, with how many threads of torch's; a line in `note` for each time it runs."""
    import torch

    if note:
        with open(note, "a") as file:
            file.write(f"{values}\n")
    return {"sum": sum(values), "threads": torch.get_num_threads(), "pair": (1, 2)}


def fail(number):
    """A job that some numbers end in an error, 13 by ending its process."""
    if number == 13:
        os._exit(1)
    if number % 2:
        raise ZeroDivisionError(f"number {number} is odd")
    return {"number": number}


def sleep(seconds):
    """A job that takes a while."""
    time.sleep(seconds)
    return {"seconds": seconds}


def job(folder, name, function, **arguments):
    return Job(Path(folder) / f"{name}.json", f"test_jobs:{function.__name__}", arguments)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Spawned processes find this module."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture(params=["here", "processes", "ray"])
def mode(request, monkeypatch):
    if request.param == "ray":
        pytest.importorskip("ray", reason="ray is not installed: pip install 'wm-gym[ray]'")
        return {"ray": "local", "workers": 1, "progress": False}
    return {"workers": {"here": 1, "processes": 2}[request.param], "progress": False}


def test_every_mode_gives_the_same_and_asks_once(mode, tmp_path):
    jobs = [job(tmp_path, i, threads_and_sum, values=(i, 1), note=str(tmp_path / "note")) for i in range(3)]
    expected = [{"sum": i + 1, "threads": 1, "pair": [1, 2]} for i in range(3)]
    assert run_jobs(jobs, **mode) == expected
    jobs[1].path.unlink()
    assert run_jobs(jobs, **mode) == expected
    assert sorted((tmp_path / "note").read_text().split("\n")) == ["", "[0, 1]", "[1, 1]", "[1, 1]", "[2, 1]"]
    with pytest.raises(ValueError, match=r"answers {'values': \[0, 1\]}, not {'values': \[5\]}"):
        run_jobs([job(tmp_path, 0, threads_and_sum, values=[5], note=str(tmp_path / "note"))], **mode)


def test_an_error_names_its_job_and_the_others_are_kept(mode, tmp_path):
    jobs = [job(tmp_path, f"job-{i}", fail, number=i) for i in range(3)]
    with pytest.raises(RuntimeError, match=r"(?s)1 of 3 jobs failed.*job-1\.json.*number 1 is odd"):
        run_jobs(jobs, **mode)
    assert [job.path.is_file() for job in jobs] == [True, False, True]
    assert json.loads(jobs[2].path.read_text())["result"] == {"number": 2}


def test_a_worker_that_dies_is_an_error_of_its_job(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)job-13\.json.*its worker was lost"):
        run_jobs([job(tmp_path, f"job-{i}", fail, number=i) for i in (13, 2)], workers=2, progress=False)


def test_what_cannot_be_asked_is_refused(tmp_path):
    one = job(tmp_path, "one", sleep, seconds=0)
    with pytest.raises(ValueError, match="workers is 0"):
        run_jobs([one], workers=0)
    with pytest.raises(ValueError, match="two jobs"):
        run_jobs([one, one])
    with pytest.raises(TypeError, match="one.json.*cannot be written as JSON"):
        run_jobs([job(tmp_path, "one", sleep, seconds={1, 2})])
    one.path.write_text("[]")
    with pytest.raises(ValueError, match="keeps no job's result"):
        run_jobs([one])


def test_without_ray_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'wm-gym\[ray\]'"):
        run_jobs([job(tmp_path, "one", sleep, seconds=0)], ray="local")


@pytest.mark.parametrize("mode", ["here", "processes", "ray"], indirect=True)
def test_ctrl_c_keeps_what_is_done_and_leaves_no_process(mode, tmp_path):
    script = f"""
import signal
from test_jobs import *
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may run in the background, where it is ignored
    run_jobs([job({str(tmp_path)!r}, i, sleep, seconds=s) for i, s in enumerate([0, 100, 101])], **{mode!r})
"""
    (tmp_path / "script.py").write_text(script)
    running = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / "0.json").is_file() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.1)
    time.sleep(0.5)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does, to the workers too
    _, errors = running.communicate(timeout=300)
    assert "interrupted: 1 of 3 jobs are kept" in errors and "KeyboardInterrupt" in errors, errors
    with pytest.raises(ProcessLookupError):  # soon nobody is left in its group
        for _ in range(300):
            os.killpg(running.pid, 0)
            time.sleep(0.1)
