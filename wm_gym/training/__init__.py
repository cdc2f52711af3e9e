"""How does a recording become a world?"""

from pathlib import Path
from typing import Any


def train(*args: Any, **kwargs: Any) -> Path:
    """See `wm_gym.training.trainer.train`; imported at the first call, because torch takes a second to load."""
    from wm_gym.training.trainer import train as run

    return run(*args, **kwargs)
