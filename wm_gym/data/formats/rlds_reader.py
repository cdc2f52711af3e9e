"""What is in an RLDS folder (TFDS TFRecords, as Open X-Embodiment, Bridge and DROID have them), without TensorFlow?

An episode is one record; its steps lie flattened, one list a field. The end of the record is the end of the episode:
is_last and is_terminal are often unset, and not used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from wm_gym.data.formats import tfrecord
from wm_gym.data.formats.lerobot_schema import AGAIN, CAMERA_PREFIX, DatasetError, Feature, check_features, read_json
from wm_gym.data.formats.reader import Reader
from wm_gym.data.formats.registry import rlds_folder
from wm_gym.data.formats.video import decode_picture

STATES = ("steps/observation/state", "steps/observation/proprio")
TEXTS = ("steps/language_instruction", "steps/observation/natural_language_instruction", "language_instruction")


Example = Mapping[str, np.ndarray | list[bytes]]


class Leaf(TypedDict):
    """One field of features.json."""

    kind: str | None
    """"image", "text" or "tensor"; None for what is not read."""
    shape: list[int]
    dtype: str


class RLDSReader(Reader):
    """The reader of one split of an RLDS dataset: the folder with features.json, or the one above.

    fps: frames a second, which RLDS does not store. split: default the first. Pictures become
    observation.images.NAME, steps/observation/state observation.state, steps/action action (several tensors are put
    one after the other in alphabetical order), steps/reward next.reward. Opening reads every record once.
    """

    format = "rlds"

    def __init__(
        self, root: str | Path, fps: float | None = None, split: str | None = None, skip_damaged: bool = False
    ) -> None:
        folder = rlds_folder(Path(root))
        if folder is None:
            raise DatasetError(
                f"{root} is not an RLDS dataset: it has no features.json and dataset_info.json; give "
                f"the folder of one version, e.g. bridge_dataset/1.0.0"
            )
        if fps is None:
            raise DatasetError(
                f"{root} is in RLDS, which does not store the frame rate; give it, e.g. --fps 5, with: "
                f"wm-gym data convert {root} --fps 5 --to DIR"
            )
        super().__init__(folder, skip_damaged)
        leaves = dict(_leaves(read_json(folder / "features.json"), folder / "features.json"))
        features, self._source = _map_features(leaves)
        check_features(folder / "features.json", features)
        self.splits, files = _split_files(folder, split)
        self._text = next((key for key in TEXTS if key in leaves), None)
        self._where: list[tuple[Path, int]] = []
        length: list[int] = []
        tasks: list[str] = []
        for path, promised in files:
            for offset, data in self._records(path, promised):
                steps, task = 0, ""
                with self._noting(len(length)):
                    if isinstance(data, DatasetError):
                        raise data
                    example = tfrecord.parse_example(data, path)
                    steps = self._steps(example, features, path)
                    task = _text(example.get(self._text) if self._text else None)
                self._where.append((path, offset))
                length.append(steps)
                tasks.append(task)
        if not length:
            raise DatasetError(f"{folder} has no episodes in {', '.join(path.name for path, _ in files)}; {AGAIN}")
        self._describe(fps, features, length, tasks)
        self._settle()

    def _records(self, path: Path, promised: int) -> Iterator[tuple[int, bytes | DatasetError]]:
        """Yield (offset, bytes or DatasetError) of a file's records, those that are lost at its end too."""
        count = 0
        try:
            for record in tfrecord.records(path):
                yield record
                count += 1
        except DatasetError as error:
            for _ in range(max(promised - count, 1)):
                yield 0, error

    def _columns(self, episode: int, keys: list[str]) -> dict[str, np.ndarray]:
        path, example = self._example(episode)
        return {key: self._numbers(example, key, int(self.length[episode]), path) for key in keys}

    def _decode(self, camera: str, episode: int) -> Iterator[np.ndarray]:
        path, example = self._example(episode)
        stored = example.get(self._source[camera][0], [])
        if not isinstance(stored, list) or len(stored) != self.length[episode]:
            raise DatasetError(
                f"{path}: episode {episode} has {len(stored)} pictures of {camera} in "
                f"{self.length[episode]} steps; {AGAIN}"
            )
        for data in stored:
            yield decode_picture(data, self.frame_size(camera), path)

    def files(self, camera: str | None) -> list[Path]:
        """features.json and the split's files of records."""
        return [self.root / "features.json", *dict.fromkeys(path for path, _ in self._where)]

    def _example(self, e: int) -> tuple[Path, Example]:
        path, offset = self._where[e]
        return path, tfrecord.parse_example(tfrecord.record_at(path, offset), path)

    def _steps(self, example: Example, features: Mapping[str, Feature], path: Path) -> int:
        """Count an episode's steps by its first camera's pictures, or else by its actions."""
        for key, spec in features.items():
            values = example.get(self._source[key][0])
            size = 1 if spec["dtype"] == "image" else math.prod(spec["shape"])
            if values is not None and len(values) and (size == 1 or len(self._source[key]) == 1):
                return len(values) // size or 1
        raise DatasetError(f"{path}: a record has neither pictures nor numbers; {AGAIN}")

    def _numbers(self, example: Example, key: str, length: int, path: Path) -> np.ndarray:
        columns = []
        for name in self._source[key]:
            values = example.get(name)
            if values is None or isinstance(values, list) or len(values) % length:
                raise DatasetError(
                    f"{path}: {name} has {0 if values is None else len(values)} numbers in {length} steps; {AGAIN}"
                )
            columns.append(np.asarray(values).reshape(length, -1))
        array = np.concatenate(columns, 1)
        if array.shape[1] != math.prod(self.features[key]["shape"]):
            raise DatasetError(
                f"{path}: {key} has {array.shape[1]} numbers a step, features.json says "
                f"{self.features[key]['shape']}; {AGAIN}"
            )
        return array.astype(self.features[key]["dtype"])


def _leaves(node: Any, path: Path, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yield (name, leaf) of every leaf of TFDS's features.json, names joined by "/"."""
    try:
        if "featuresDict" in node:
            for name, child in node["featuresDict"]["features"].items():
                yield from _leaves(child, path, f"{prefix}/{name}" if prefix else name)
        elif "sequence" in node:
            yield from _leaves(node["sequence"]["feature"], path, prefix)
        else:
            kind = next((k for k in ("image", "text", "tensor") if k in node), None)
            body = node.get(kind) or {} if kind else {}
            if "Scalar" in node.get("pythonClassName", ""):
                kind, body = "tensor", node.get("tensor") or body
            shape = [int(n) for n in (body.get("shape") or {}).get("dimensions", [])]
            if kind == "tensor" and body.get("encoding", "none") not in ("none", "NONE"):
                kind = None  # zipped tensors: no published dataset has its actions in them
            yield prefix, {"kind": kind, "shape": shape, "dtype": body.get("dtype", "")}
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        raise DatasetError(
            f"{path} does not describe features as TFDS writes them, at {prefix or 'its top'} "
            f"({type(error).__name__}: {error}); {AGAIN}"
        ) from None


def _map_features(leaves: Mapping[str, Leaf]) -> tuple[dict[str, Feature], dict[str, list[str]]]:
    """RLDS fields as LeRobot's features, and {key: the fields that it is made of}."""
    features: dict[str, Feature] = {}
    source: dict[str, list[str]] = {}
    for name, leaf in leaves.items():
        if name.startswith("steps/observation/") and leaf["kind"] == "image" and leaf["shape"][-1:] == [3]:
            key = CAMERA_PREFIX + name.removeprefix("steps/observation/").replace("/", "_")
            features[key] = {"dtype": "image", "shape": leaf["shape"], "names": ["height", "width", "channels"]}
            source[key] = [name]
    numbers = {
        name: leaf
        for name, leaf in leaves.items()
        if leaf["kind"] == "tensor" and leaf["dtype"] in ("float32", "float64", "int32", "int64", "bool", "uint8")
    }
    actions = sorted(name for name in numbers if name == "steps/action" or name.startswith("steps/action/"))
    state = next((name for name in STATES if name in numbers), None)
    for key, names in (
        ("action", actions),
        ("observation.state", [state] if state else []),
        ("next.reward", ["steps/reward"] if "steps/reward" in numbers else []),
    ):
        if names:
            sizes = {name: math.prod(numbers[name]["shape"]) for name in names}
            labels = [f"{name.removeprefix('steps/action/')}_{i}" for name in names for i in range(sizes[name])]
            several = labels if len(names) > 1 else None
            features[key] = {"dtype": "float32", "shape": [sum(sizes.values())], "names": several}
            source[key] = names
    return features, source


def _split_files(folder: Path, split: str | None) -> tuple[list[str], list[tuple[Path, int]]]:
    """The names of all splits, and [(path, how many records it should have)] of the files of one."""
    path = folder / "dataset_info.json"
    info = read_json(path)
    listed = info.get("splits")
    splits = {str(one.get("name")): one for one in listed if isinstance(one, dict)} if isinstance(listed, list) else {}
    if not splits or split is not None and split not in splits:
        raise DatasetError(
            f"{folder} has no split {split!r}; it has {', '.join(splits) or 'none'}: give one with --split"
        )
    name = split or next(iter(splits))
    shards = splits[name].get("shardLengths") or []
    template = splits[name].get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    count = len(shards) if isinstance(shards, list) else 0
    paths = []
    for i in range(count):
        filled = str(template)
        for field, value in (
            ("DATASET", info.get("name")),
            ("SPLIT", name),
            ("FILEFORMAT", info.get("fileFormat", "tfrecord")),
            ("SHARD_INDEX", f"{i:05d}"),
            ("NUM_SHARDS", f"{count:05d}"),
            ("SHARD_X_OF_Y", f"{i:05d}-of-{count:05d}"),
        ):
            filled = filled.replace("{" + field + "}", str(value))
        if "/" in filled or "\\" in filled or "\0" in filled or len(filled) > 200:
            raise DatasetError(
                f"{path}: the file name {filled[:200]!r} of split {name!r} leads out of the folder; do "
                f"not trust this dataset"
            )
        if not (folder / filled).is_file():
            raise DatasetError(f"{folder}: missing {filled}, one of {count} files of split {name!r}; {AGAIN}")
        paths.append((folder / filled, int(shards[i]) if str(shards[i]).isdecimal() else 0))
    return list(splits), paths


def _text(values: Any) -> str:
    """An episode's instruction: its first step's."""
    if not values or not isinstance(values, list):
        return ""
    return values[0].decode("utf-8", "replace")
