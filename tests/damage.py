"""How is a dataset damaged at random, and read? Reading may succeed or raise DatasetError, and nothing else."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np

HOSTILE = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "{x.__class__}",
    "{episode_index:99999999d}",
    "a\0b",
    "",
    "x" * 5000,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**30,
    1e308,
    -0.5,
    None,
    True,
    [],
    {},
    [[]],
    {"a": {"b": []}},
    [2**40, 2**40, 3],
    ["a"],
    "float33",
]


def damage(root: Path, seed: int) -> str:
    """Change one file of the dataset at `root` -> what was done."""
    rng = np.random.default_rng(seed)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    path = files[rng.integers(len(files))]
    data = bytearray(path.read_bytes())
    if path.suffix in (".json", ".jsonl") and rng.random() < 0.8:
        lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
        at = int(rng.integers(len(lines)))
        value, hostile = json.loads(lines[at]), HOSTILE[rng.integers(len(HOSTILE))]
        place = _replace(value, rng, hostile)
        lines[at] = json.dumps(value if place else hostile)
        path.write_text("\n".join(lines))
        return f"{path.relative_to(root)}: {place} = {str(hostile)[:40]!r}"
    kind = rng.choice(["flip", "cut", "empty", "insert", "gone"], p=[0.5, 0.2, 0.05, 0.2, 0.05])
    if kind == "flip":
        for _ in range(int(rng.integers(1, 20))):
            if data:
                data[rng.integers(len(data))] = rng.integers(256)
    elif kind == "cut":
        data = data[: rng.integers(len(data) + 1)]
    elif kind == "empty":
        data = bytearray()
    elif kind == "insert":
        at = rng.integers(len(data) + 1)
        data = data[:at] + rng.bytes(int(rng.integers(1, 64))) + data[at:]
    if kind == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(data))
    return f"{path.relative_to(root)}: {kind}"


def places(value, way: str = "") -> list[tuple]:
    """(list or mapping, key, the way to it) of every value below one that JSON or YAML gave."""
    found = []
    if isinstance(value, (dict, list)):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            found += [(value, key, f"{way}/{key}"), *places(child, f"{way}/{key}")]
    return found


def _replace(value, rng, hostile) -> str:
    """Put `hostile` in the place of a random node below `value` -> the way to it, "" where there is none."""
    found = places(value)
    if not found:
        return ""
    node, key, way = found[rng.integers(len(found))]
    node[key] = hostile
    return way


def read_all(root: Path, **options) -> None:
    """Read whatever there is to read of a dataset."""
    from wm_gym.data import open_reader

    reader = open_reader(root, **options)
    reader.columns()
    for camera in reader.cameras:
        for _ in reader.iter_frames(camera):
            pass
        reader.frames(camera, len(reader) - 1)
        reader.content_hash(camera)


def make_datasets(folder: Path) -> dict[str, dict]:
    """Small datasets of every format that needs no real data -> {name: options of open_reader}."""
    from test_formats import folder_dataset, pictures, write_v21

    from wm_gym.data import LeRobotWriter
    from wm_gym.data.formats.lerobot_schema import feature, video_feature

    camera = "observation.images.main"
    with LeRobotWriter(folder / "v30", 10, {camera: video_feature(24, 32, 10), "action": feature("float32", 2)}) as w:
        for e in range(3):
            w.add_episode({"action": np.ones((4, 2), np.float32)}, {camera: pictures(4, seed=e)}, f"task {e}")
    write_v21(folder / "v21", [3, 5], video=True)
    write_v21(folder / "v21_pictures", [3, 5], video=False)
    folder_dataset(folder / "npz")
    folder_dataset(folder / "csv", "csv")
    write_rlds(folder / "rlds")
    return {"v30": {}, "v21": {}, "v21_pictures": {}, "npz": {}, "csv": {}, "rlds": {"fps": 5}}


def write_rlds(root: Path, episodes: int = 2, length: int = 3) -> None:
    """An RLDS folder as TFDS writes it: JPEG pictures, two actions."""
    import struct

    from PIL import Image
    from test_formats import pictures

    from wm_gym.data.formats import tfrecord

    root.mkdir()

    def leaf(kind, shape, dtype):
        dimensions = {"dimensions": [str(n) for n in shape]}
        return {"pythonClassName": kind.title(), kind: {"shape": dimensions, "dtype": dtype}}

    steps = {
        "action": leaf("tensor", [2], "float32"),
        "observation": {"featuresDict": {"features": {"image": leaf("image", [24, 32, 3], "uint8")}}},
    }
    (root / "features.json").write_text(
        json.dumps(
            {"featuresDict": {"features": {"steps": {"sequence": {"feature": {"featuresDict": {"features": steps}}}}}}}
        )
    )
    (root / "dataset_info.json").write_text(
        json.dumps(
            {
                "name": "tiny",
                "fileFormat": "tfrecord",
                "splits": [
                    {
                        "name": "train",
                        "shardLengths": [str(episodes)],
                        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                    }
                ],
            }
        )
    )
    with open(root / "tiny-train.tfrecord-00000-of-00001", "wb") as file:
        for e in range(episodes):
            example = tfrecord._example_class()()
            feature = example.features.feature
            feature["steps/action"].float_list.value.extend(range(2 * length))
            for frame in pictures(length, seed=e):
                data = io.BytesIO()
                Image.fromarray(frame).save(data, "JPEG")
                feature["steps/observation/image"].bytes_list.value.append(data.getvalue())
            data = example.SerializeToString()
            head = struct.pack("<Q", len(data))
            file.write(
                head + struct.pack("<I", tfrecord._masked(head)) + data + struct.pack("<I", tfrecord._masked(data))
            )


def damaged_copy(source: Path, to: Path, seed: int) -> str:
    """Copy a dataset and damage the copy -> what was done."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(source, to)
    return damage(to, seed)
