"""How does a page look that one file holds and no network feeds? Its style, its parts and its figures."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure

WORLD, PHYSICS, GREY = "#2f6fb5", "#c8641e", "#8a8f98"
"""One colour a side, in every figure."""

STYLE = """
:root { color-scheme: light; --ink: #1f2328; --soft: #5b626c; --line: #e3e5e8; --world: #2f6fb5; --physics: #c8641e; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f6f4; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -.01em; }
h2 { font-size: 20px; margin: 0 0 6px; }
p { margin: 0 0 12px; max-width: 72ch; }
.lead { color: var(--soft); font-size: 17px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px; margin: 24px 0; }
.tile, section { background: #fff; border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 14px 16px; }
.tile b { display: block; font-size: 30px; line-height: 1.15; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 14px; }
.tile.world b { color: var(--world); } .tile.physics b { color: var(--physics); }
section { padding: 22px 24px; margin: 18px 0; }
img { max-width: 100%; height: auto; display: block; }
img.film { margin: 10px auto 4px; image-rendering: pixelated; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: 7px 8px; border-bottom: 1px solid var(--line); vertical-align: top; }
td:last-child { white-space: nowrap; }
table.cross { width: auto; margin-top: 6px; } table.cross td { text-align: right; min-width: 120px; }
.wide { overflow-x: auto; margin: 8px 0 12px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr)); gap: 14px; }
small { display: block; color: var(--soft); font-size: 12.5px; white-space: nowrap; }
@media (max-width: 600px) { main { padding: 24px 12px 40px; } section { padding: 16px 14px; } h1 { font-size: 25px; }
  .tiles { grid-template-columns: repeat(2, 1fr); gap: 10px; } .tile b { font-size: 24px; } }
.note { color: var(--soft); font-size: 14px; }
code { background: #f0f0ee; border-radius: 4px; padding: 1px 5px; font-size: 14px; }
pre { background: #f0f0ee; border-radius: 8px; padding: 12px 14px; overflow-x: auto; margin: 8px 0 0; }
pre code { padding: 0; background: none; }
"""


@functools.cache
def _templates() -> Environment:
    """The package's templates. Every value is escaped unless it is `Markup`; a name that is not given is an error."""
    loader = FileSystemLoader(Path(__file__).resolve().parents[1] / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def fill(template: str, **values: Any) -> Markup:
    """HTML of a file of `wm_gym/templates`, its values escaped unless they are `Markup`."""
    return Markup(_templates().get_template(template).render(**values))


def page(title: str, body: Markup, style: str = "") -> str:
    """A whole HTML page; style: more CSS than `STYLE`."""
    return str(fill("page.html", title=title, style=Markup(STYLE + style), body=body))


def axes(columns: int, size: tuple[float, float], rows: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A figure without a window, in the page's style, and its axes, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _plain_figure()(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    made = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in made:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#c9cdd2")
        axis.tick_params(colors="#5b626c", labelsize=9)
        axis.grid(color="#eceef0")
        axis.set_axisbelow(True)
        axis.title.set_size(11)
    return figure, list(made)


@functools.cache
def _plain_figure() -> type[Figure]:
    """The class of figures that show every text as it is: a name may hold what matplotlib takes for a formula."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class PlainFigure(Figure):
        def draw(self, renderer: RendererBase) -> None:
            for one in self.findobj(Text):
                one.set_parse_math(False)
            with rc_context({"text.parse_math": False}):  # those that drawing makes
                super().draw(renderer)

    return PlainFigure


def legend(axis: Axes, handles: Sequence[Any], names: Sequence[str], **how: Any) -> None:
    """A legend that has every name as it is, also those that matplotlib would leave out (_x)."""
    made = axis.legend(handles, [str(number) for number in range(len(handles))], **how)
    for shown, name in zip(made.get_texts(), names):
        shown.set_text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(name)))


def picture(figure: Figure, description: str, dpi: int = 170) -> Markup:
    """A matplotlib figure as an image that the page holds."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    return Markup('<img alt="{}" src="{}">').format(description, data_uri(data.getvalue(), "image/png"))


def data_uri(data: bytes, kind: str) -> str:
    """A file's bytes as an address; kind: its media type, e.g. image/png."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png_uri(image: np.ndarray) -> str:
    """A picture `uint8 [H, W, 3]` as the address of a PNG."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data_uri(data.getvalue(), "image/png")
