"""Which URDF files do the twins load? The Panda with few polygons and a tool, and boxes that slide like a drawer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pybullet_data

from wm_gym.common.cache_folder import kept_or_scratch
from wm_gym.common.files import write_text


@dataclass(frozen=True)
class Tool:
    """A foot on a stem that the closed gripper holds: width of its square foot, its height, length of all, metres."""

    width: float
    height: float
    length: float


@dataclass(frozen=True)
class Box:
    """A box of a link: its middle and half its extents, metres, and its colour (RGBA), None for white."""

    at: Sequence[float]
    half: Sequence[float]
    colour: Sequence[float] | None = None


def low_polygon_panda(tool: Tool | None = None) -> Path:
    """A copy of pybullet_data's Panda that is drawn with its collision meshes (3,440 faces), a tool on its hand."""
    source = Path(pybullet_data.getDataPath(), "franka_panda")
    text = re.sub(
        r"package://meshes/(visual|collision)/",
        f"{source.as_posix()}/meshes/collision/",
        (source / "panda.urdf").read_text(),
    )
    return _cached("panda", text.replace("</robot>", (_tool(tool) if tool else "") + "</robot>"))


def slider(boxes: Sequence[Box], travel: float) -> Path:
    """Boxes that slide together along -x by 0 to `travel` metres."""
    return _cached(
        "slider",
        f"""<robot name="slider">{_link("base", [], mass=1, inertia=1)}
  {_link("tray", boxes, mass=0.5, inertia=0.01, centre=(0, 0, 0.02))}
  <joint name="slide" type="prismatic"><parent link="base"/><child link="tray"/><axis xyz="-1 0 0"/>
    <limit lower="0" upper="{travel}" effort="100" velocity="10"/></joint>
</robot>
""",
    )


def _tool(tool: Tool) -> str:
    """Stem and foot, fixed to the hand where the fingertips are."""
    parts = [
        ("stem", (0.008, 0.008, tool.length / 2), 0.08 + tool.length / 2),
        ("foot", (tool.width / 2, tool.width / 2, tool.height / 2), 0.08 + tool.length - tool.height / 2),
    ]
    return "".join(
        f"""  {_link(name, [Box((0, 0, 0), half)], mass=0.05, inertia=0.001)}
  <joint name="{name}_joint" type="fixed">
    <parent link="panda_hand"/><child link="{name}"/><origin xyz="0 0 {z}"/>
  </joint>
"""
        for name, half, z in parts
    )


def _link(name: str, boxes: Sequence[Box], mass: float, inertia: float, centre: Sequence[float] = (0, 0, 0)) -> str:
    shapes = "".join(
        f'\n    <{kind}><origin xyz="{_numbers(box.at)}"/>'
        f'<geometry><box size="{_numbers(2 * h for h in box.half)}"/></geometry>'
        + (f'<material name="{name}{i}"><color rgba="{_numbers(box.colour)}"/></material>' if box.colour else "")
        + f"</{kind}>"
        for i, box in enumerate(boxes)
        for kind in ("visual", "collision")
    )
    diagonal = " ".join(f'i{axis * 2}="{inertia}"' for axis in "xyz")
    return f"""<link name="{name}">
    <inertial><origin xyz="{_numbers(centre)}"/><mass value="{mass}"/>
      <inertia {diagonal} ixy="0" ixz="0" iyz="0"/></inertial>{shapes}
  </link>"""


def _numbers(values: Iterable[float]) -> str:
    return " ".join(map(str, values))


def _cached(name: str, text: str) -> Path:
    """The text as a file of the user's cache, named after its content: scenes of other processes may differ."""

    def keep(cache: Path) -> Path:
        path = cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.urdf"
        if not path.is_file():
            write_text(path, text)
        return path

    return kept_or_scratch(keep)
