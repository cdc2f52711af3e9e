"""Where do the networks get from_pretrained, save_pretrained and their config? diffusers, imported in half the time.

diffusers decorates with torch._dynamo where it can be imported and does without where it cannot. Its import takes as
long as all the rest, and only torch.compile needs it, which imports it itself.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

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

__all__ = ["ConfigMixin", "ModelMixin", "register_to_config", "resized"]


def resized(model: ModelMixin, **sizes) -> ModelMixin:
    """A new model with another one's configuration but for these sizes, with weights of its own.

    `from_config` would keep what the other one, read from an older folder, has by default.
    """
    return type(model)(**{key: value for key, value in model.config.items() if not key.startswith("_")} | sizes)
