"""What does a dataset look like? One HTML page: its ranges, a contact sheet, episodes as video over their numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from wm_gym.common.page import axes, data_uri, legend, page, picture, text, tile
from wm_gym.data.curation.summary import Summary, names_of, summarize
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
    sheet, shown = contact_sheet(reader, camera), []
    for e, frames in spread(reader, camera, episodes):
        part = slice(int(reader.offset[e]), int(reader.offset[e + 1]))
        shown.append(
            f"<section class='episode-section'><h2>Episode {text(reader.name(e))}</h2><p class='note'>"
            f"{text(reader.tasks[e] or 'no task given')} &middot; {len(frames)} frames</p>"
            f"<video controls loop muted playsinline src='{_video(frames, reader.fps)}'></video>"
        )
        for key, value in columns.items():
            shown.append(_lines(reader, key, value[part].reshape(len(frames), -1)))
        shown.append("</section>")
    summary = summarize(reader)
    body = [
        f"<h1>{text(reader.root.name)}</h1><p class='lead'>{text(reader.format)} dataset at <code>"
        f"{text(reader.root)}</code>, camera {text(camera.removeprefix(CAMERA_PREFIX))}.</p><div class='tiles'>",
        tile("", f"{summary['episodes']:,}", "episodes"),
        tile("", f"{summary['frames']:,}", "frames"),
        tile("", f"{reader.fps:g}", "frames a second"),
        tile("", "{}x{}".format(*reader.frame_size(camera)), "pixels"),
        "</div>",
        f"<section><h2>Contact sheet</h2><p class='note'>A row an episode, from its first frame to its last.</p>"
        f"{sheet}</section>",
    ]
    if reader.damaged:
        body.append(
            f"<section><h2>Damaged</h2><p class='note'>Left out here. Of the videos those shown were decoded, "
            f"of the others the headers read.</p><pre><code>{text(faults(reader, reader.damaged, chr(10)))}"
            f"</code></pre></section>"
        )
    body += [*shown, f"<section><h2>Ranges</h2><div class='wide'>{_table(summary)}</div></section>"]
    return page(reader.root.name, "\n".join(body), STYLE)


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


def contact_sheet(reader: Reader, camera: str) -> str:
    """An <img> of frames of up to ROWS episodes, spread over the dataset."""
    height, width = reader.frame_size(camera)
    size = (max(1, round(WIDTH * height / width)), WIDTH)
    rows = []
    for _, frames in spread(reader, camera, ROWS):
        chosen = frames[np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)]
        rows.append(np.concatenate(list(resize_area(chosen, size)), 1))
    data = io.BytesIO()
    from PIL import Image

    Image.fromarray(np.concatenate(rows)).save(data, "PNG")
    return f"<img class='film' alt='frames of {len(rows)} episodes' src='{data_uri(data.getvalue(), 'image/png')}'>"


def _video(frames: np.ndarray, fps: float) -> str:
    """Encode frames for any browser (H.264, 4:2:0, even sides, small ones enlarged) as an address of their own."""
    import av

    scale = max(1, -(-256 // min(frames.shape[1:3])))
    frames = frames.repeat(scale, 1).repeat(scale, 2)
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    data = io.BytesIO()
    from fractions import Fraction

    with av.open(data, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.options = {"crf": "20"}
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
    return data_uri(data.getvalue(), "video/mp4")


def _lines(reader: Reader, key: str, values: np.ndarray) -> str:
    figure, (axis,) = axes(1, (7.2, 2.3))
    seconds = np.arange(len(values)) / reader.fps
    names = names_of(reader, key, values.shape[1])[:10]
    lines = [axis.plot(seconds, values[:, i], linewidth=1.4)[0] for i in range(len(names))]
    axis.set_title(key, loc="left")
    axis.set_xlabel("seconds", fontsize=9)
    legend(axis, lines, names, fontsize=7.5, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return picture(figure, f"{key} over time", dpi=110)


def _table(summary: Summary) -> str:
    rows = "".join(
        f"<tr><td>{text(key)}</td><td>{text(one['name'])}</td><td>{one['min']:.4g}</td><td>{one['max']:.4g}</td>"
        f"<td>{one['mean']:.4g}</td><td>{one['std']:.4g}</td><td>{one['wraps'] or ''}</td></tr>"
        for key, numbers in summary["columns"].items()
        for one in numbers[:32]
    )
    return (
        "<table><tr><th>column</th><th>name</th><th>min</th><th>max</th><th>mean</th><th>std</th>"
        f"<th>jumps at &plusmn;&pi;</th></tr>{rows}</table>"
    )
