"""Where do the networks get from_pretrained, save_pretrained and config? From diffusers, imported in half the time.

diffusers uses torch._dynamo where it can be imported and does without where it cannot. That import takes as long as all
the rest, and only torch.compile needs it, which makes it itself.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wm_gym.common.reading import read_mapping

DYNAMO = "torch._dynamo"


class _NotHere(MetaPathFinder):
    """Refuses an import to the thread that made it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> None:
        if fullname == DYNAMO and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"{DYNAMO} is not needed here", name=DYNAMO)


@contextlib.contextmanager
def _without_dynamo() -> Iterator[None]:
    finder = _NotHere()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


try:
    with _without_dynamo():
        from diffusers.configuration_utils import ConfigMixin, register_to_config
        from diffusers.models.modeling_utils import ModelMixin
except ImportError:  # another package that diffusers found here cannot do without
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.models.modeling_utils import ModelMixin

__all__ = ["ConfigMixin", "ModelMixin", "Network", "made_from", "read_index", "register_to_config", "resized"]


class Network(ModelMixin, ConfigMixin):  # type: ignore[misc]  # its two bases disagree on the type of config_name
    """A network whose constructor's arguments are its config.json and its attribute `config`.

    A module that defines one for a world imports ModelMixin, too: diffusers' pipelines look for it beside the class.
    """

    if TYPE_CHECKING:
        config: Any


N = TypeVar("N", bound=Network)


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


def made_from(kind: type[N], settings: Any) -> N:
    """A network of a class with the settings of a config.json, its weights drawn at random."""
    made: Any = kind.from_config(settings)
    return made


def resized(model: N, **sizes: Any) -> N:
    """A new model with another one's configuration but for these sizes, with weights of its own.

    `from_config` would keep what the other one, read from an older folder, has by default.
    """
    return type(model)(**{key: value for key, value in model.config.items() if not key.startswith("_")} | sizes)
