"""What can be asked of a dataset of robot video, whatever format it is stored in?"""

import hashlib

import numpy as np

from wm_gym.data.lerobot_schema import CAMERA_PREFIX, DatasetError


class Reader:
    """Read one dataset; each format has a subclass, `formats.open_reader` finds it.

    .root its folder; .fps frames a second; .features {key: {"dtype", "shape", "names"}} under LeRobot's keys (action,
    observation.state, observation.images.NAME, next.reward, next.success); .cameras the keys of the pictures;
    .length int64 [E]; .offset int64 [E+1], so that rows of episode e are offset[e]:offset[e+1]; .tasks, a text an
    episode; .notes, what wm-gym's own recorder wrote down ({} elsewhere). Row t holds observation t and action t.
    Whatever is wrong with the files raises DatasetError.
    """

    format = ""
    notes: dict = {}

    def _describe(self, root, fps, features, length, tasks):
        self.root, self.fps, self.features = root, fps, features
        self.cameras = [key for key, spec in features.items() if is_picture(spec)]
        self.num_episodes = len(length)
        self.length = np.asarray(length, np.int64)
        self.offset = np.concatenate([[0], np.cumsum(self.length)]).astype(np.int64)
        self.tasks = list(tasks)

    def __len__(self):
        return self.num_episodes

    def columns(self, keys=None):
        """Read columns of all episodes as {key: array [N, *shape]}, default all but the pictures; floats are finite."""
        raise NotImplementedError

    def iter_frames(self, camera):
        """Yield (row, frame uint8 [H, W, 3]) for every row of the dataset; a missing one is an error."""
        raise NotImplementedError

    def frames(self, camera, episode):
        """Decode one episode of a camera: uint8 [L, H, W, 3]."""
        raise NotImplementedError

    def files(self, camera):
        """List every file that the rows and one camera's frames, None for no camera, are read from."""
        raise NotImplementedError

    def camera(self, name=None):
        """Resolve a camera's name, short ("wrist_left") or whole, to its key; None takes the first."""
        if not self.cameras:
            raise DatasetError(f"{self.root} has no pictures; its features are {', '.join(self.features)}")
        if name is None:
            return self.cameras[0]
        for key in self.cameras:
            if name in (key, key.removeprefix(CAMERA_PREFIX)):
                return key
        there = ", ".join(key.removeprefix(CAMERA_PREFIX) for key in self.cameras)
        raise DatasetError(f"{self.root} has no camera {name!r}; it has {there}: give one with --camera")

    def frame_size(self, camera):
        """Give the stored (height, width) of a camera's frames."""
        return picture_size(self.features[camera])

    def content_hash(self, *cameras):
        """Hash what the rows and the cameras' frames are read from: the same content gives the same hash anywhere."""
        digest = hashlib.blake2b(digest_size=16)
        for path in dict.fromkeys(path for camera in cameras or [None] for path in self.files(camera)):
            digest.update(str(path.relative_to(self.root)).encode())
            with open(path, "rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
        return digest.hexdigest()

    def number_keys(self):
        """List the columns that hold numbers."""
        return [key for key, spec in self.features.items() if not is_picture(spec) and spec["dtype"] != "string"]

    def _known(self, keys):
        """Check column names -> list; None means every column of numbers."""
        if keys is None:
            return self.number_keys()
        for key in keys:
            if key not in self.features:
                raise DatasetError(f"{self.root} has no feature {key!r}; it has {', '.join(self.features)}")
        return list(keys)

    def _check_episode(self, episode):
        if not 0 <= episode < self.num_episodes:
            raise DatasetError(f"{self.root} has no episode {episode}; it has 0 to {self.num_episodes - 1}")

    def _check_frame(self, camera, frame, path):
        """Give the frame back if it has the promised size."""
        if frame.shape[:2] != self.frame_size(camera):
            raise DatasetError(f"{path} has a frame of {frame.shape[0]}x{frame.shape[1]}, the dataset promises "
                               f"{'x'.join(map(str, self.frame_size(camera)))} for {camera}; fetch or record it again")
        return frame

    def _check_finite(self, key, values):
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        e = self._episode_of(row)
        raise DatasetError(f"{self.root}: {key!r} is {values[row].tolist()} in episode {e}, frame "
                           f"{row - self.offset[e]}; expected finite numbers: drop that episode or record it again")

    def _episode_of(self, row):
        return int(np.searchsorted(self.offset, row, side="right") - 1)


def is_picture(spec):
    """Say whether a feature is a camera's: a video, or pictures stored among the rows."""
    return spec["dtype"] in ("video", "image")


def picture_size(spec):
    """Give (height, width) of a camera's feature, whose shape is [H, W, 3], or [3, H, W] in older datasets."""
    shape = spec["shape"]
    names = spec.get("names")
    first = names[0] if isinstance(names, list) and names else ""
    return tuple(shape[1:]) if str(first).startswith("channel") else tuple(shape[:2])
