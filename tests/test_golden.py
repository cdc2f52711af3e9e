"""Are frames, weights, recordings and actions what they were before the code was moved about, bit for bit?"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from golden import ARITHMETIC, GOLDEN


@pytest.mark.release
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the hashes are of x86-64's arithmetic")
def test_nothing_has_changed():
    environment = os.environ | ARITHMETIC | {"PYTHONPATH": str(Path(__file__).parents[1])}
    made = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("golden.py"))],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert made.returncode == 0, made.stderr
    now, then = json.loads(made.stdout[made.stdout.index("{") :]), json.loads(GOLDEN.read_text())
    if now["arithmetic"] != then["arithmetic"]:
        pytest.skip(f"this machine rounds otherwise than the one of {GOLDEN.name} ({platform.processor()})")
    assert now == then
