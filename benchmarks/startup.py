"""How long until the first frame? Fresh processes, one after the other, with a warm artefact cache.

    python benchmarks/startup.py [WORLD_ID]

Seconds from the interpreter's first statement: `import wm_gym`, `gym.make` and `reset` (the first frame), one `step`.
The first process fills the cache and is not counted. Writes results/startup.json.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
from common import Bar, command, write_results

CODE = """
import json, sys, time
started, passed = time.perf_counter(), {}
import wm_gym
passed["import"] = time.perf_counter() - started
import gymnasium as gym
env = gym.make(sys.argv[1])
env.reset(seed=0)
passed["first_frame"] = time.perf_counter() - started
env.step(env.action_space.sample())
passed["first_step"] = time.perf_counter() - started
print(json.dumps(passed))
"""
BARS = {
    "startup": [
        Bar("import wm_gym, median s", ("seconds", "import", "median"), most=0.15),
        Bar("first frame, median s", ("seconds", "first_frame", "median"), most=3),
        Bar("first step, median s", ("seconds", "first_step", "median")),
    ]
}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("env", nargs="?", default="wm_gym/Push-v0")
    parser.add_argument("--processes", type=int, default=9, help="(default: 9)")
    args = parser.parse_args()
    runs = [
        json.loads(
            subprocess.run([sys.executable, "-c", CODE, args.env], check=True, stdout=subprocess.PIPE, text=True).stdout
        )
        for _ in range(args.processes + 1)
    ][1:]
    seconds = {}
    for key in runs[0]:
        row = [run[key] for run in runs]
        seconds[key] = {"median": round(float(np.median(row)), 3), "min": round(min(row), 3), "max": round(max(row), 3)}
    write_results("startup", {"env": args.env, "processes": args.processes, "seconds": seconds})


if __name__ == "__main__":
    main()
