"""What does a dataset look like? One HTML page: its ranges, a contact sheet, episodes as video over their numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from markupsafe import Markup

from wm_gym.common.page import axes, data_uri, fill, legend, page, picture, png_uri
from wm_gym.data.curation.summary import summarize
from wm_gym.data.formats.lerobot_schema import CAMERA_PREFIX
from wm_gym.data.formats.reader import Damaged, Reader, faults
from wm_gym.data.resize import resize_area

COLUMNS, ROWS, WIDTH = 8, 8, 116  # of the contact sheet: episodes, and the width of a picture
STYLE = """video { width: 100%; max-height: 420px; background: #000; border-radius: 6px; }
.episode { max-width: 720px; } .at { position: relative; } """


def view_page(reader: Reader, camera: str | None = None, episodes: int = 4) -> str:
    """A dataset as HTML: `episodes` of it, spread evenly, as videos with their actions beneath."""
    camera = reader.camera(camera)
    columns = {key: value for key, value in reader.columns().items() if key in ("action", "observation.state")}
    sheet, rows = contact_sheet(reader, camera)
    shown = [_episode(reader, e, frames, columns) for e, frames in spread(reader, camera, episodes)]
    summary = summarize(reader)
    body = fill(
        "dataset.html",
        name=reader.root.name,
        format=reader.format,
        root=reader.root,
        camera=camera.removeprefix(CAMERA_PREFIX),
        tiles=[
            ("", f"{summary['episodes']:,}", "episodes"),
            ("", f"{summary['frames']:,}", "frames"),
            ("", f"{reader.fps:g}", "frames a second"),
            ("", "{}x{}".format(*reader.frame_size(camera)), "pixels"),
        ],
        sheet=png_uri(sheet),
        rows=rows,
        damaged=faults(reader, reader.damaged, "\n") if reader.damaged else "",
        episodes=shown,
        columns=summary["columns"],
    )
    return page(reader.root.name, body, STYLE)


def _episode(reader: Reader, e: int, frames: np.ndarray, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    part = slice(int(reader.offset[e]), int(reader.offset[e + 1]))
    return {
        "name": reader.name(e),
        "task": reader.tasks[e],
        "length": len(frames),
        "video": _video(frames, reader.fps),
        "lines": [_lines(reader, key, value[part].reshape(len(frames), -1)) for key, value in columns.items()],
    }


def spread(reader: Reader, camera: str, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (episode, its frames) for up to `count` episodes, spread evenly over those that can be read."""
    left = set(reader.sound)
    for at in np.linspace(0, len(reader) - 1, count).round():
        while left:
            e = min(left, key=lambda one: (abs(one - at), one))
            left.remove(e)
            try:
                frames = reader.frames(camera, e)
            except Damaged as error:
                if not reader.skip_damaged:
                    raise
                reader.know(error.episodes)
            else:
                yield e, frames
                break


def contact_sheet(reader: Reader, camera: str) -> tuple[np.ndarray, int]:
    """One picture of frames of up to ROWS episodes, spread over the dataset, and of how many."""
    height, width = reader.frame_size(camera)
    size = (max(1, round(WIDTH * height / width)), WIDTH)
    rows = []
    for _, frames in spread(reader, camera, ROWS):
        chosen = frames[np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)]
        rows.append(np.concatenate(list(resize_area(chosen, size)), 1))
    return np.concatenate(rows), len(rows)


def _video(frames: np.ndarray, fps: float) -> str:
    """Encode frames for any browser (H.264, 4:2:0, even sides, small ones enlarged) as an address of their own."""
    import av

    scale = max(1, -(-256 // min(frames.shape[1:3])))
    frames = frames.repeat(scale, 1).repeat(scale, 2)
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.options = {"crf": "20"}
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
    return data_uri(data.getvalue(), "video/mp4")


def _lines(reader: Reader, key: str, values: np.ndarray) -> Markup:
    figure, (axis,) = axes(1, (7.2, 2.3))
    seconds = np.arange(len(values)) / reader.fps
    names = (reader.names(key, values.shape[1]) or [str(i) for i in range(values.shape[1])])[:10]
    lines = [axis.plot(seconds, values[:, i], linewidth=1.4)[0] for i in range(len(names))]
    axis.set_title(key, loc="left")
    axis.set_xlabel("seconds", fontsize=9)
    legend(axis, lines, names, fontsize=7.5, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return picture(figure, f"{key} over time", dpi=110)
