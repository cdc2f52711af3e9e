"""How are frames put into a video file without loss, and taken out of any video file by their number?"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from wm_gym.data.formats.lerobot_schema import MOST_FPS, DatasetError

KEYFRAME_EVERY = 10  # random access decodes at most this many frames


class VideoWriter:
    """Encode uint8 RGB frames [L, H, W, 3] losslessly (H.264 RGB, qp 0, no B-frames) into one mp4."""

    def __init__(self, path: str | Path, height: int, width: int, fps: float) -> None:
        import av

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file = av.open(str(path), "w")
        self._stream = self._file.add_stream("libx264rgb", rate=Fraction(fps).limit_denominator(100_000))
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "rgb24"
        self._stream.codec_context.gop_size = KEYFRAME_EVERY
        self._stream.codec_context.thread_count = 1  # the same bytes on every machine; the other cores simulate
        # scenecut off: keyframes at fixed places
        self._stream.options = {"qp": "0", "preset": "superfast", "bf": "0", "sc_threshold": "0"}

    def write(self, frames: Iterable[np.ndarray]) -> None:
        """Append frames uint8 [L, H, W, 3]."""
        import av

        for array in frames:
            self._file.mux(self._stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24")))

    def close(self) -> None:
        """Finish the file; it cannot be read before."""
        self._file.mux(self._stream.encode())
        self._file.close()


def _open(path: str | Path) -> Any:
    import av

    if not Path(path).is_file():  # a pipe would be waited for, and FFmpeg reads addresses too
        raise ValueError("it is missing or no file")
    return av.open(str(path))


def decode(path: str | Path, fps: float, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (frame number, uint8 [H, W, 3]) for the frames start <= number < stop of a video, in order.

    The number is round(time x fps). H.264, AV1 and whatever else PyAV decodes. A file that is not a video, or that
    breaks off, raises DatasetError; so does a frame that the decoder had to guess, or that follows from such a one.
    """
    import av

    try:
        with _open(path) as file:
            stream = file.streams.video[0]
            small = stream.height * stream.width < 256 * 256  # where threads cost more than they save
            stream.thread_type = "NONE" if small else "AUTO"
            if start > 0:  # to the keyframe at or before it
                file.seek(int((start - 0.25) / fps / stream.time_base), stream=stream)
            begun = False
            guessed: int | None = None
            for frame in file.decode(stream):
                number = round(float(frame.pts * stream.time_base) * fps)
                if stop is not None and number >= stop:
                    return
                if frame.key_frame:
                    begun, guessed = True, None
                if begun and frame.is_corrupt:  # before the first keyframe it only lacks what lies before the seek
                    guessed = number
                if guessed is not None and number >= start:
                    raise DatasetError(f"{path} is damaged at {guessed / fps:.3f} s; fetch or record the dataset again")
                if number >= start:
                    # our own lossless files: the planes as they are, three times as fast
                    yield number, frame.to_ndarray(format=None if frame.format.name == "gbrp" else "rgb24")
    except DatasetError:
        raise
    except (av.FFmpegError, IndexError, TypeError, AttributeError, ValueError) as error:  # no time, no codec, no size
        raise DatasetError(
            f"cannot decode {path}: {error}; expected an H.264 or AV1 video: fetch or record the dataset again"
        ) from None


def probe(path: str | Path) -> tuple[int | None, tuple[int, int], float]:
    """A video's number of frames, None where its header does not say, its (height, width) and its rate, or 0."""
    import av

    try:
        with _open(path) as file:
            stream = file.streams.video[0]
            return stream.frames or None, (stream.height, stream.width), float(stream.average_rate or 0)
    except (av.FFmpegError, IndexError, ValueError, AttributeError) as error:  # AttributeError: a codec unknown
        raise DatasetError(
            f"cannot open {path} as a video: {error}; it is empty, truncated or not a video: fetch or "
            f"record the dataset again"
        ) from None


def probe_rate(path: str | Path) -> tuple[int, tuple[int, int], float]:
    """A video's number of frames (counted where its header does not say), its (height, width) and its rate."""
    count, size, rate = probe(path)
    if not 0 < rate <= MOST_FPS:
        raise DatasetError(
            f"{path} says {rate:g} frames a second, expected more than 0 and at most {MOST_FPS}; convert "
            f"it to a constant rate, e.g. with ffmpeg -r 10"
        )
    return count or sum(1 for _ in decode(path, rate)), size, rate


def decode_picture(data: bytes, size: Sequence[int], path: str | Path) -> np.ndarray:
    """The pixels uint8 [H, W, 3] of a PNG, JPEG or WebP file's bytes.

    Args:
        data: The file.
        size: The (height, width) that the dataset promises.
        path: Where it lies, for errors.

    Raises:
        DatasetError: For another size, and for what cannot be decoded.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
            if picture.size != (size[1], size[0]):  # before any pixel is unpacked
                raise DatasetError(
                    f"{path} has a picture of {picture.height}x{picture.width}, the dataset promises "
                    f"{size[0]}x{size[1]}; fetch or record the dataset again"
                )
            return np.asarray(picture.convert("RGB"))
    except DatasetError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(
            f"{path} has a picture that cannot be decoded ({error}); expected PNG, JPEG or WebP: fetch "
            f"or record the dataset again"
        ) from None
