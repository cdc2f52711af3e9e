"""Which commands look at a dataset and make a better one?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from wm_gym.cli.command import Command, flag, positional
from wm_gym.common.options import Count
from wm_gym.data.formats.registry import FORMATS

if TYPE_CHECKING:
    from wm_gym.data.formats.reader import Reader

LOOKS = "go on without episodes that cannot be read, and name them (always so: this only looks)"


class OnDataset(Command):
    """A command on a dataset, with what has to be said where its format does not store it."""

    dataset: Annotated[str, "DATASET"] = positional(help="; ".join(one.what for one in FORMATS.values()))
    format: str | None = flag(default=None, choices=list(FORMATS))
    "Its format (default: what the folder holds)."
    fps: float | None = None
    "Frames a second, where the format does not store it."
    split: str | None = None
    "Which split of an RLDS dataset (default: its first)."
    skip_damaged: bool = flag(default=False, help=LOOKS)

    def reader(self) -> Reader:
        """The dataset to look at; damaged episodes are named and left out."""
        from wm_gym.data.formats.registry import open_reader

        return open_reader(self.dataset, self.format, skip_damaged=True, fps=self.fps, split=self.split)


class DataInfo(OnDataset):
    """Say what is in a dataset."""

    name = "data info"
    example = "wm-gym data info data/reach"

    json: bool = False
    "Print JSON."

    def run(self) -> None:
        from wm_gym.common.files import json_text
        from wm_gym.data.curation.summary import summarize, summary_text

        summary = summarize(self.reader())
        print(json_text(summary, indent=1) if self.json else summary_text(summary))


class DataConvert(OnDataset):
    """Write a dataset of any format as LeRobotDataset v3.0."""

    name = "data convert"
    example = "wm-gym data convert bridge_dataset/1.0.0 --fps 5 --to data/bridge"

    skip_damaged: bool = False
    "Go on without episodes that cannot be read, and name them (without it they are an error)."
    to: Annotated[str, "DIR"]
    "The LeRobotDataset v3.0 folder to write; the same command goes on after a kill."
    camera: Sequence[Annotated[str, "KEY"]] | None = None
    "Which camera (default: all)."

    def run(self) -> None:
        from wm_gym.data.formats.convert import convert

        out = convert(
            self.dataset,
            self.to,
            self.camera,
            skip_damaged=self.skip_damaged,
            format=self.format,
            fps=self.fps,
            split=self.split,
        )
        print(f"converted: {out}\nnext: wm-gym train {out} --out WORLD")


class DataView(OnDataset):
    """Show a dataset as an HTML page: video, its numbers under it, a contact sheet."""

    name = "data view"
    example = "wm-gym data view data/reach --out reach.html"

    out: Annotated[str, "FILE.html"]
    "One file that needs no network."
    episodes: Count = 4
    "Shown with video, spread over the dataset."
    camera: Annotated[str, "KEY"] | None = None
    "Which camera (default: the first)."

    def run(self) -> None:
        from wm_gym.common.files import write_text
        from wm_gym.data.curation.view import view_page
        from wm_gym.data.formats.reader import warn_left_out

        reader = self.reader()
        write_text(self.out, view_page(reader, self.camera, self.episodes))
        warn_left_out(reader, reader.damaged)
        print(f"written: {self.out}")


class DataCurate(Command):
    """Find clips that would teach a world something wrong; nothing is deleted."""

    name = "data curate"
    example = "wm-gym data curate data/reach --out reach.filter.json"

    dataset: Annotated[str, "DATASET"] = positional()
    "Any that `wm-gym data info` opens and training takes."
    skip_damaged: bool = flag(default=False, help=LOOKS)
    out: Annotated[str, "FILE.json"]
    "The filter list to write, for wm-gym train --filter; FILE.html beside it shows why."
    camera: Annotated[str, "KEY"] | None = None
    "Which camera (default: the first)."
    max_lag: Count = flag(default=3, metavar="K")
    "Lags of the video behind its actions from -K to K are tried."
    keep: Sequence[Annotated[str, "FILTER"]] = ()
    "Do not leave out what this filter finds, e.g. outlier, or lag."

    def run(self) -> None:
        from pathlib import Path

        from wm_gym.common.files import write_text
        from wm_gym.data import open_clips
        from wm_gym.data.curation.curate import curate, without
        from wm_gym.data.curation.curate_page import curation_page, curation_text

        out = Path(self.out)
        if out.suffix != ".json":
            raise ValueError(f"--out {self.out} is not a .json file; the filter list is JSON")
        clips = open_clips(self.dataset, camera=self.camera, skip_damaged=True)
        made = without(curate(clips, self.max_lag), self.keep)
        write_text(out.with_suffix(".html"), curation_page(clips, made))
        made.selection.save(out)
        print(
            f"{curation_text(clips, made)}\nwritten: {out} and {out.with_suffix('.html')}\nnext: wm-gym train "
            f"{self.dataset} {'--skip-damaged ' if clips.meta.get('damaged') else ''}--filter {out} --out WORLD"
        )


COMMANDS = (DataInfo, DataConvert, DataView, DataCurate)
