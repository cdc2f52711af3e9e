"""Can a damaged or hostile dataset do more than raise a clear error? Escape its folder, fill the memory, crash?"""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import damaged_copy, make_datasets, read_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_formats import write_v21

from wm_gym.data import DatasetError, open_reader

NAMES = ("v30", "v21", "v21_pictures", "npz", "csv", "rlds")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return folder, make_datasets(folder)


@pytest.mark.parametrize("name", NAMES)
def test_undamaged_sets_are_read(sets, name):
    read_all(sets[0] / name, **sets[1][name])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_damaged_set_is_read_or_named(sets, tmp_path, name, seed):
    done = damaged_copy(sets[0] / name, tmp_path / "set", seed)
    try:
        read_all(tmp_path / "set", **sets[1][name])
    except DatasetError as error:
        assert len(str(error)) > 20, done


def edit(root, **changes):
    info = json.loads((root / "meta/info.json").read_text())
    for key, value in changes.items():
        info[key] = value
    (root / "meta/info.json").write_text(json.dumps(info))


def test_templates_cannot_leave_the_folder(tmp_path):
    root = write_v21(tmp_path / "set", [3], video=True)
    secret = tmp_path / "secret.parquet"
    pq.write_table(pa.table({"action": [[0.0, 0.0]] * 3, "episode_index": [0] * 3, "frame_index": [0, 1, 2]}), secret)
    opened = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    for template in (
        "../secret.parquet",
        str(secret),
        "data/../../secret.parquet",
        "{video_key}/../../secret.parquet",
        "{episode_index.__class__}",
        "{episode_index:9999999999d}",
        "data/\0",
        5,
        "..\\secret.parquet",
    ):
        edit(root, data_path=template)
        with pytest.raises(DatasetError, match="do not trust|has the field|is not a path"):
            open_reader(root)
    edit(
        root,
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="../{video_key}.mp4",
    )
    with pytest.raises(DatasetError, match="do not trust"):
        open_reader(root)
    assert not any("secret" in path for path in opened)


def test_rlds_file_names_cannot_leave_the_folder(sets, tmp_path):
    import shutil

    root = shutil.copytree(sets[0] / "rlds", tmp_path / "rlds")
    info = json.loads((root / "dataset_info.json").read_text())
    info["name"] = "../../x"
    (root / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="leads out of the folder"):
        open_reader(root, fps=5)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"total_episodes": 2**62}, "expected a count"),
        ({"total_frames": -1}, "expected a count"),
        ({"fps": 1e300}, "fps is"),
        ({"fps": "10"}, "fps is"),
        ({"fps": float("nan")}, "fps is"),
        ({"features": []}, "expected an object"),
        ({"features": {"action": {"dtype": "float32", "shape": [10**9, 10**9]}}}, "declares"),
        ({"features": {"a": {"dtype": "video", "shape": [10**6, 10**6, 3]}}}, "declares"),
        ({"features": {"a": {"dtype": "video", "shape": [64, 64, 1]}}}, "depth and grey"),
        ({"features": {"action": {"dtype": "float32", "shape": [-1]}}}, "positive whole numbers"),
    ],
)
def test_gigantic_or_senseless_declarations_are_named(tmp_path, changes, words):
    root = write_v21(tmp_path / "set", [3], video=True)
    edit(root, **changes)
    with pytest.raises(DatasetError, match=words):
        open_reader(root)


def test_wrong_dtypes_are_named(tmp_path):
    root = write_v21(tmp_path / "set", [3], video=True)
    pq.write_table(
        pa.table({"action": [["a", "b"]] * 3, "episode_index": [0] * 3, "frame_index": [0, 1, 2]}),
        root / "data/chunk-000/episode_000000.parquet",
    )
    with pytest.raises(DatasetError, match="only numbers can be read"):
        open_reader(root).columns()


def test_a_parquet_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    """200 million rows in a few kilobytes, and an info.json that promises them."""
    import wm_gym.data.formats.memory as memory

    root = write_v21(tmp_path / "set", [3], video=False)
    rows = 2_000_000
    pq.write_table(
        pa.table(
            {
                "action": pa.array([[0.0] * 2] * 1).take(pa.array(np.zeros(rows, np.int64))),
                "episode_index": np.zeros(rows, np.int64),
                "frame_index": np.zeros(rows, np.int64),
            }
        ),
        root / "data/chunk-000/episode_000000.parquet",
    )
    (root / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 0, "tasks": [""], "length": rows}))
    edit(root, total_frames=rows)
    monkeypatch.setattr(memory, "free_memory", lambda: 10_000_000)
    with pytest.raises(DatasetError, match="of memory are free"):
        open_reader(root).columns()


def test_an_npz_bomb_is_refused_before_it_is_unpacked(sets, tmp_path):
    import shutil

    root = shutil.copytree(sets[0] / "npz", tmp_path / "npz")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (2**36, 2)})
    with zipfile.ZipFile(root / "ep0.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("action.npy", head.getvalue() + bytes(1000))
    with pytest.raises(DatasetError, match="cannot read|of memory are free"):
        open_reader(root)


def test_a_picture_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A PNG that says 30,000 x 30,000 in a kilobyte."""
    root = write_v21(tmp_path / "set", [3], video=False)
    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")
    path = root / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path).to_pydict()
    table["observation.images.main"] = [{"bytes": bomb, "path": None}] * 3
    pq.write_table(pa.table(table), path)
    with pytest.raises(DatasetError, match="30000x30000|cannot be decoded"):
        dict(open_reader(root).iter_frames("observation.images.main"))


def test_json_bombs_are_refused(tmp_path):
    root = write_v21(tmp_path / "set", [3], video=True)
    (root / "meta/info.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(DatasetError, match="is not JSON"):
        open_reader(root)
    with open(root / "meta/info.json", "wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(DatasetError, match="expected at most"):
        open_reader(root)


def test_pickles_are_not_loaded(sets, tmp_path):
    import shutil

    root = shutil.copytree(sets[0] / "npz", tmp_path / "npz")
    np.savez(root / "ep0.npz", action=np.array([print], dtype=object))
    with pytest.raises(DatasetError, match="without objects"):
        open_reader(root)
