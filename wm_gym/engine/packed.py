"""How does an engine travel in a pickle? The world is named by where it came from, or comes along."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wm_gym.engine.base import Engine
    from wm_gym.worlds.world import World


@dataclass(frozen=True)
class PackedEngine:
    """An engine as a pickle carries it.

    A world that was loaded by name or folder is loaded from there again (once a process, as ever) and must be the
    same; one that was made in memory comes along with its weights.
    """

    world: World | str
    digest: str
    asked: tuple[str, str, bool, str]
    """The arguments of `load_engine`: back-end, device, decode, precision; "auto" may mean something else here."""
    got: tuple[str, str, bool, str]
    """Those of the engine that it gave."""

    @classmethod
    def of(cls, engine: Engine, source: World | str | Path, asked: tuple[str, str, bool, str]) -> PackedEngine:
        """Pack an engine.

        Args:
            engine: Which.
            source: The world, folder or name that its world was asked by.
            asked: As the field.
        """
        if isinstance(source, (str, Path)):
            source = str(Path(source).resolve()) if Path(source).is_dir() else str(source)
            return cls(source, world_digest(engine.world), asked, _facts(engine))
        return cls(engine.world, "", asked, _facts(engine))

    def unpack(self) -> Engine:
        """The same engine in this process.

        Raises:
            FileNotFoundError: Where its world is not here.
            ValueError: Where its world has changed, or its back-end does not run here.
        """
        from wm_gym.engine.shared import load_engine, load_world

        world = load_world(self.world)
        if self.digest and world_digest(world) != self.digest:
            raise ValueError(
                f"the world {self.world!r} is not the one that this environment was pickled in: its "
                "weights, spec or starts have changed since; make the environment anew, or save the "
                "changed world with save_pretrained and make it from there before pickling"
            )
        engine = load_engine(world, *self.asked)
        return engine if _facts(engine) == self.got else load_engine(world, *self.got)


def world_digest(world: World) -> str:
    """The hash of all that an episode in a world depends on."""
    from wm_gym.engine.artefacts import digest_of

    digest = hashlib.sha256(repr((world.spec, world.calibration)).encode())
    for module in world.modules().values():
        digest.update(digest_of(module).encode())
    for name in sorted(field.name for field in fields(world.starts)):
        values = getattr(world.starts, name)
        digest.update(name.encode() + (b"" if values is None else values.tobytes()))
    return digest.hexdigest()


def _facts(engine: Engine) -> tuple[str, str, bool, str]:
    return engine.name, str(engine.device), engine.decode, engine.precision
