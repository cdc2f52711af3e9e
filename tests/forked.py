"""What needs a process of its own, but no cold start: it is forked from one that has imported torch and has no threads.

done = forked("run_page:run_page", page, cwd=tmp_path)   # subprocess.CompletedProcess; stdout holds what it printed
done = forked("forked:run", "import os; os._exit(3)")
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing.process
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

TESTS = Path(__file__).parent


class Server:
    """The process that forks; each pytest process starts one when it first needs it."""

    process: subprocess.Popen | None = None

    def ask(self, asked: dict) -> int:
        if self.process is None or self.process.poll() is not None:
            path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
            self.process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": path},
            )
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


_SERVER = Server()


def forked(call: str, *arguments, cwd=None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Call "module:function" with plain arguments in a process of its own; env: more variables."""
    with tempfile.TemporaryFile("w+") as output:
        told = {
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ) | (env or {}),
            "output": f"/proc/{os.getpid()}/fd/{output.fileno()}",
        }
        status = _SERVER.ask({"call": call, "arguments": arguments, **told})
        output.seek(0)
        return subprocess.CompletedProcess([call, *arguments], status, stdout=output.read())


def run(code: str) -> None:
    """Run a script."""
    exec(compile(code, "script", "exec"), {"__name__": "__main__"})


def _serve() -> None:
    import gc

    import diffusers.training_utils  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401
    import stable_baselines3  # noqa: F401
    import torch._dynamo
    import torch.fx.experimental.symbolic_shapes
    import torch.utils.tensorboard  # noqa: F401

    import wm_gym.evaluation.suite.suite
    import wm_gym.rl.train
    import wm_gym.training.trainer  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        if not (pid := os.fork()):
            _child(**asked)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _child(call: str, arguments: list, cwd: str, env: dict[str, str], output: str) -> None:
    status = 1
    with contextlib.suppress(BaseException):
        file = os.open(output, os.O_WRONLY | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
        multiprocessing.process.ORIGINAL_DIR = cwd  # where processes that this one spawns begin
        try:
            module, _, name = call.partition(":")
            getattr(importlib.import_module(module), name)(*arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve()
