"""Where do the networks get from_pretrained, save_pretrained and their config? diffusers, imported in half the time.

diffusers decorates with torch._dynamo where it can be imported and does without where it cannot. Its import takes as
long as all the rest, and only torch.compile needs it, which imports it itself.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wm_gym.common.reading import read_mapping

DYNAMO = "torch._dynamo"


@contextlib.contextmanager
def _without_dynamo() -> Iterator[None]:
    if DYNAMO in sys.modules:
        yield
        return
    sys.modules[DYNAMO] = None  # whoever imports it is told that it is not there
    try:
        yield
    finally:
        del sys.modules[DYNAMO]


try:
    with _without_dynamo():
        from diffusers.configuration_utils import ConfigMixin, register_to_config
        from diffusers.models.modeling_utils import ModelMixin
except ImportError:  # another package that diffusers found here cannot do without
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.models.modeling_utils import ModelMixin

__all__ = ["ConfigMixin", "ModelMixin", "read_index", "register_to_config", "resized"]


def read_index(folder: Path, known: tuple[str, ...]) -> dict[str, Any]:
    """A pipeline's model_index.json; ValueError where a component is of another package than the `known` ones.

    diffusers imports whatever package is named there.
    """
    path = folder / "model_index.json"
    index = read_mapping(path)
    for name, part in index.items():
        package = part[0] if isinstance(part, list) and part else None
        if package is not None and not any(f"{package}.".startswith(f"{one}.") for one in known):
            raise ValueError(
                f"{path}: {name} is {part!r}, expected a class of {' or '.join(known)}; what a file says "
                "is not imported: do not trust this folder"
            )
    return index


def resized(model: ModelMixin, **sizes) -> ModelMixin:
    """A new model with another one's configuration but for these sizes, with weights of its own.

    `from_config` would keep what the other one, read from an older folder, has by default.
    """
    return type(model)(**{key: value for key, value in model.config.items() if not key.startswith("_")} | sizes)
