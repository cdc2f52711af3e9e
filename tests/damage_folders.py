"""How is a folder damaged: a world, an agent, a planner, a dataset? By a seeded generator; damage_trial.py tries it.

folders = sources(tmp)                                # four small sound folders
what = damaged(folders["world"], tmp / "broken", 7)   # a copy with one fault, and the line that describes it
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import pickle
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import yaml
from damage import places

KINDS = ("world", "agent", "planner", "dataset")
EVIL = "wm_gym_evil_module"
"""A module that nothing may ever import."""
JSON_LIKE, YAML_LIKE = (".json", ".jsonl"), (".yaml", ".yml")


class _Run:
    """What a pickle that is loaded would call."""

    def __reduce__(self):
        return __import__, (EVIL,)


HOSTILE = [
    "",
    " ",
    "\0",
    "x" * 5000,
    "../../../../etc/passwd",
    "/etc/passwd",
    "/",
    "~",
    f"{EVIL}:run",
    f"{EVIL}:x/Y-v0",
    f"{EVIL}.Wrapper",
    "os:system",
    "{x.__class__}",
    "{0.__class__.__init__.__globals__}",
    "{n:99999999d}",
    "$(id)",
    "lin_x",
    "cuda:99",
    "\u202e",
    "nan",
    "1e999",
    "0x10",
    -1,
    0,
    1,
    2,
    3,
    5,
    7,
    13,
    64,
    100,
    1000,
    2**15,
    10**6,
    10**7,
    2**31 - 1,
    2**31,
    2**32,
    2**63,
    10**9,
    10**12,
    10**30,
    10**400,
    -(2**31),
    -(10**12),
    -0.0,
    0.5,
    -0.5,
    1.5,
    1e-300,
    1e9,
    1e12,
    1e38,
    1e39,
    1e308,
    -1e308,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    None,
    [],
    {},
    [[]],
    [None],
    ["a"],
    [0],
    [-1],
    [1e9],
    [math.nan],
    {"a": {"b": []}},
    [2**40, 2**40, 3],
    [[[[[[1]]]]]],
    [1, "a", None],
    [0.0] * 1000,
]


# --- sound folders ----------------------------------------------------------------------------------------------------


def sources(tmp: Path) -> dict[str, Path]:
    """A small sound folder of each kind in `tmp`."""
    import torch

    from wm_gym.policies.planner import save_planner
    from wm_gym.policies.planning import Search
    from wm_gym.training.build import new_world
    from wm_gym.training.presets import Preset
    from wm_gym.worlds.calibration import Calibration
    from wm_gym.worlds.spec import WorldSpec

    torch.set_num_threads(1)
    tmp.mkdir(parents=True, exist_ok=True)
    spec = WorldSpec(
        name="Tiny-v0",
        frame_size=[16, 16],
        action_low=[-1.0] * 2,
        action_high=[1.0] * 2,
        action_names=["x", "y"],
        action_unit="2 cm",
        proprioception_names=["x", "yaw"],
        proprioception_unit="m, rad",
        reward_components=["progress", "success"],
        horizon=12,
        success_threshold=2.0,
        task_description="touch the ball",
        twin="wm_gym/ReachPyBullet-v0",
    )
    sizes = Preset(
        encoder_width=8, decoder_width=8, widths=(8, 16), lags=(1, 2), condition_dim=8, pose_width=8, head_width=4
    )
    world = new_world(spec, sizes, seed=0)
    world.calibration = Calibration(0.1, 2.0, 0.5, 0.2, [[0.0, 15], [0.1, 4], [0.3, 0]], 20, 12, "20 episodes")
    world.save_pretrained(tmp / "world")
    from PIL import Image

    Image.fromarray(world.starts.frames[3, 0]).save(tmp / "goal.png")
    with contextlib.redirect_stdout(None):
        save_planner(tmp / "world", tmp / "planner", Search(horizon=4, candidates=8, elites=4), goal=tmp / "goal.png")
    _agent(tmp / "agent")
    _dataset(tmp / "dataset")
    return {kind: tmp / kind for kind in KINDS}


def _agent(folder: Path) -> None:
    import gymnasium as gym
    from stable_baselines3 import PPO

    from wm_gym.policies.features import SpatialSoftmaxCNN
    from wm_gym.policies.folder import save_agent

    class Still(gym.Env):
        observation_space = gym.spaces.Dict(
            {
                "pixels": gym.spaces.Box(0, 255, (16, 16, 3), np.uint8),
                "agent_pos": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            }
        )
        action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    kwargs = dict(
        net_arch=dict(pi=[8], vf=[8]),
        features_extractor_class=SpatialSoftmaxCNN,
        log_std_init=-0.7,
        features_extractor_kwargs=dict(channels=(4, 4, 4)),
    )
    model = PPO("MultiInputPolicy", Still(), n_steps=8, batch_size=8, policy_kwargs=kwargs, device="cpu", seed=0)
    save_agent(
        model,
        folder,
        {
            "algo": "ppo",
            "policy": "MultiInputPolicy",
            "env_id": "wm_gym/Reach-v0",
            "learned": True,
            "seed": 0,
            "env_kwargs": {"observation": "pixels+state"},
            "env_wrapper": None,
            "frame_stack": 1,
            "init": None,
            "n_timesteps": 64,
            "n_timesteps_before": 0,
            "training_seconds": 1.5,
            "training_success_rate": 0.5,
            "n_envs": 1,
            "hyperparameters": {"n_steps": 8, "batch_size": 8, "learning_rate": "lin_3e-4", "gamma": 0.95},
        },
    )


def _dataset(folder: Path) -> None:
    from wm_gym.data import LeRobotWriter
    from wm_gym.data.formats.lerobot_schema import feature, video_feature

    rng, camera = np.random.default_rng(0), "observation.images.main"
    features = {
        camera: video_feature(16, 16, 10),
        "action": feature("float32", 2, ["x", "y"]),
        "observation.state": feature("float32", 2),
    }
    with LeRobotWriter(folder, 10, features) as writer:
        for e in range(2):
            rows = {key: rng.uniform(-1, 1, (4, 2)).astype(np.float32) for key in ("action", "observation.state")}
            writer.add_episode(rows, {camera: rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)}, f"task {e}")


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged(source: Path, out: Path, seed: int) -> str:
    """Copy a sound folder to `out` and damage the copy in one way -> what was done, in a line."""
    remove(out)
    shutil.copytree(source, out)
    rng = random.Random(seed)
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.suffix != ".md")
    path = rng.choice(files)
    ways = [_bytes] * 2 + [_place]
    if path.suffix in JSON_LIKE + YAML_LIKE:
        ways += [_value] * 6 + [_bomb]
    if path.suffix == ".safetensors":
        ways += [_tensors] * 6
    if path.suffix == ".parquet":
        ways += [_rows] * 3
    if path.suffix == ".png":
        ways += [_picture] * 3
    said = rng.choice(ways)(path, out, rng)
    return f"{path.relative_to(out)}: {said}"[:200]


def remove(folder: Path) -> None:
    """Remove what `damaged` made, links and all."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _bytes(path: Path, root: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    way = rng.choice(["flip", "flip", "flip", "cut", "cut", "empty", "insert", "twice", "zeros", "noise", "not UTF-8"])
    if way == "flip":
        for _ in range(count := rng.randint(1, 20)):
            at = rng.randrange(min(len(data), rng.choice([100, 1000, 10**9])) or 1)
            data[at : at + 1] = bytes([rng.randrange(256)])
        way = f"{count} bytes flipped"
    elif way == "cut":
        data = data[: rng.randrange(len(data) + 1)]
    elif way == "empty":
        data = bytearray()
    elif way == "insert":
        at = rng.randrange(len(data) + 1)
        data[at:at] = rng.randbytes(rng.randint(1, 64))
    elif way == "twice":
        data += bytes(data)
    elif way == "zeros":
        at = rng.randrange(len(data) + 1)
        data[at : at + 200] = bytes(len(data[at : at + 200]))
    elif way == "noise":
        data = bytearray(rng.randbytes(len(data)))
    else:
        data[rng.randrange(len(data) + 1) :] = b"\xff\xfe\x80\n"
    path.write_bytes(data)
    return way


def _place(path: Path, root: Path, rng: random.Random) -> str:
    way = rng.choice(
        [
            "missing",
            "folder",
            "dangling",
            "/",
            "loop",
            "device",
            "pipe",
            "folder gone",
            "folder is file",
            "folder dangling",
            "folder loop",
            "folder is /",
            "sparse",
            "pickle",
            "extra link",
        ]
    )
    place = path
    if way.startswith("folder ") and path.parent != root:
        place = path.parent
    if way == "extra link":
        for name, to in (("more", "/"), ("nowhere", "/no/such/file"), ("round", ".")):
            os.symlink(to, place.parent / name)
        return "links to /, to nowhere and to itself beside it"
    if way == "sparse":
        with open(place, "r+b") as file:
            file.truncate(rng.choice([10**8, 10**11]))
        return "a sparse file of gigabytes"
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    if way == "folder":
        place.mkdir()
    elif way == "pickle":
        place.with_name("pytorch_model.bin").write_bytes(pickle.dumps(_Run()))
        place.write_bytes(pickle.dumps(_Run()))
    elif way == "pipe":
        os.mkfifo(place)
    elif way == "folder is file":
        place.write_text("{}")
    elif way in ("dangling", "folder dangling"):
        os.symlink("/no/such/file", place)
    elif way in ("/", "folder is /"):
        os.symlink("/", place)
    elif way in ("loop", "folder loop"):
        os.symlink(place.name, place)
    elif way == "device":
        os.symlink(rng.choice(["/dev/zero", "/dev/urandom", "/proc/self/mem"]), place)
    return f"{way} ({place.relative_to(root)})"


def _value(path: Path, root: Path, rng: random.Random) -> str:
    """Another value, a missing or an unknown key, at any place of a JSON or YAML file."""
    text = path.read_text()
    if path.suffix == ".jsonl":
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        lines[at], said = _changed(json.loads(lines[at]), rng, json.dumps)
        path.write_text("\n".join(lines))
        return f"line {at}: {said}"
    is_json = path.suffix == ".json"
    value = json.loads(text) if is_json else yaml.safe_load(text)
    text, said = _changed(value, rng, json.dumps if is_json else lambda value: yaml.safe_dump(value, sort_keys=False))
    path.write_text(text)
    return said


def _changed(value, rng: random.Random, dump) -> tuple[str, str]:
    found = places(value)
    if not found:
        return dump(rng.choice(HOSTILE)), "all of it"
    node, key, way = rng.choice(found)
    kind, hostile = rng.choice(["set"] * 6 + ["near", "gone", "rename", "wrap", "long", "swap", "deep", "twice"]), None
    old = node[key]
    if kind == "set":
        hostile = rng.choice(HOSTILE)
        node[key] = hostile
    elif kind == "near" and isinstance(old, (int, float)):
        node[key] = hostile = rng.choice([old + 1, old - 1, 2 * old, -old, old * 1000, old / 3, str(old), [old]])
    elif kind == "gone":
        del node[key]
    elif kind == "rename" and isinstance(node, dict):
        node[rng.choice(["", f"{key}_", "__class__", "self", "x" * 1000])] = node.pop(key)
    elif kind == "wrap":
        node[key] = {str(key): old} if rng.random() < 0.5 else [old]
    elif kind == "long":
        node[key] = [old] * rng.choice([100, 3000, 1_000_000 if isinstance(old, (int, float)) else 3000])
    elif kind == "swap":
        other, key2, way2 = rng.choice(found)
        node[key], kind = json.loads(json.dumps(other[key2])), f"as {way2}"
    elif kind == "deep":
        for _ in range(depth := rng.choice([30, 60, 200])):
            old = [old] if rng.random() < 0.5 else {"a": old}
        node[key], kind = old, f"{depth} deep"
    elif kind == "twice" and isinstance(node, dict):
        node[key] = "WM_GYM_TWICE"
        said = dump(value)
        first, other = dump({key: old}).strip().strip("{}"), dump({key: rng.choice(HOSTILE[:40])}).strip().strip("{}")
        if "\n" not in first + other:
            return said.replace(
                dump({key: "WM_GYM_TWICE"}).strip().strip("{}"),
                first + (", " if dump is json.dumps else f"\n{' ' * _indent(said)}") + other,
            ), f"{way} twice"
        node[key] = old
    return dump(value), f"{way} {kind} {str(hostile)[:60] if hostile is not None else ''}".strip()


def _indent(text: str) -> int:
    line = next(line for line in text.splitlines() if "WM_GYM_TWICE" in line)
    return len(line) - len(line.lstrip(" -"))


def _bomb(path: Path, root: Path, rng: random.Random) -> str:
    """Nesting, aliases, tags, gigabytes of nothing."""
    text = path.read_text()
    depth = rng.choice([100, 5000, 100_000])
    laughs = "\n".join(
        [f"a0: &a0 [{'ha, ' * 9}ha]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    )
    bombs = {
        "deep list": "[" * depth + "]" * depth,
        "deep open": '{"a":' * depth,
        "aliases": f"{laughs}\n{text}",
        "loop alias": f"&a\n{text}\nmore: *a\n",
        "merge": f"base: &b\n  x: 1\n{text}\nmore:\n  <<: *b\n",
        "tag": f"{text}\nmore: !!python/object/apply:{EVIL}.run [x]\n",
        "module tag": f"!!python/module:{EVIL}\n{text}",
        "dates": f"{text}\nmore: 2020-01-01\n",
        "binary": f"{text}\nmore: !!binary {base64.b64encode(b'x' * 99).decode()}\n",
        "documents": f"{text}\n---\n{text}",
        "numbers": "[" + "1," * 1_500_000 + "1]",
        "digits": "1" * 100_000,
        "spaces": " " * 3_000_000 + text,
        "lines": "\n" * 3_000_000 + text,
        "lists": "[" + "[]," * 1_000_000 + "[]]",
        "keys": "{" + ", ".join(f'"k{i}": {i}' for i in range(200_000)) + "}",
        "BOM": "\ufeff" + text,
        "words": "a: " + "- " * depth + "1",
    }
    name = rng.choice(sorted(bombs))
    path.write_text(bombs[name])
    return f"bomb: {name}"


def _tensors(path: Path, root: Path, rng: random.Random) -> str:
    """The head or the numbers of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    head, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    names = sorted(name for name in head if name != "__metadata__")
    name = rng.choice(names)
    about, way = (
        head[name],
        rng.choice(
            [
                "nan",
                "nan",
                "inf",
                "huge",
                "random",
                "dtype",
                "cast",
                "shape",
                "grow",
                "offsets",
                "rename",
                "gone",
                "extra",
                "length",
                "deep",
                "value",
                "zeros",
                "twice",
                "wide",
            ]
        ),
    )
    begin, end = about["data_offsets"]
    if way in ("nan", "inf", "huge", "random", "zeros"):
        size = {"F64": 8, "F32": 4, "I64": 8, "U8": 1}[about["dtype"]]
        numbers = {
            "nan": math.nan,
            "inf": -math.inf,
            "huge": rng.choice([1e38, -1e38, 1e20, 1e9]),
            "zeros": 0.0,
            "random": rng.choice([-1.0, 1e-38, 1000.0]),
        }
        if about["dtype"] == "I64":
            one = struct.pack("<q", rng.choice([-1, 0, 1, 2, 7, 2**31, 2**40, 2**62, -(2**63)]))
        elif about["dtype"] == "U8":
            one = bytes([rng.randrange(256)])
        else:
            one = struct.pack("<d" if size == 8 else "<f", numbers[way])
        places = range((end - begin) // size)
        for at in places if rng.random() < 0.5 else rng.sample(places, min(len(places), 1)):
            body[begin + at * size : begin + (at + 1) * size] = one
    elif way == "dtype":
        about["dtype"] = rng.choice(["I64", "F64", "F16", "BF16", "I32", "BOOL", "U8", "F8_E4M3", "C64", "x", 3, None])
    elif way == "cast":  # a file that is sound but for its kind of numbers
        kinds = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "u1", "F16": "<f2", "I32": "<i4", "BOOL": "?"}
        now, then = kinds[about["dtype"]], rng.choice(sorted(kinds))
        with np.errstate(all="ignore"):
            body = _spliced(head, body, name, np.frombuffer(bytes(body[begin:end]), now).astype(kinds[then]).tobytes())
        about["dtype"] = then
    elif way == "shape":
        shape = about["shape"]
        about["shape"] = rng.choice(
            [
                shape[::-1],
                [*shape, 1],
                shape[1:],
                [1, *shape],
                [math.prod(shape)],
                [],
                [-1],
                [2**62, 4],
                [2**32, 2**32],
                None,
                "x",
                [0],
                [1.5],
            ]
        )
    elif way == "grow":  # consistent, but more of it
        if about["shape"]:
            about["shape"] = [about["shape"][0] * 2, *about["shape"][1:]]
            body = _spliced(head, body, name, bytes(body[begin:end]) * 2)
    elif way == "offsets":
        about["data_offsets"] = rng.choice(
            [[end, begin], [begin, end + 1], [0, 2**60], [-1, end], None, [begin], [begin, begin], [str(begin), end]]
        )
    elif way == "rename":
        head[rng.choice([name + "x", "", "../x", "__class__", "weight"])] = head.pop(name)
    elif way == "gone":
        body = _spliced(head, body, name, b"")
        del head[name]
    elif way == "extra":
        head["more"] = {"dtype": "F32", "shape": [4], "data_offsets": [len(body), len(body) + 16]}
        body += bytes(16)
    elif way == "value":
        about[rng.choice(sorted(about))] = rng.choice(HOSTILE)
    elif way == "wide":
        head["more"] = {"dtype": "F32", "shape": [2**28], "data_offsets": [len(body), len(body) + 2**30]}
    raw = json.dumps(head).encode()
    if way == "deep":
        raw = b"[" * rng.choice([200, 100_000])
    elif way == "twice":
        raw = raw[:-1] + b"," + json.dumps({name: about}).encode()[1:]
    size = rng.choice([0, 1, 2**20, 2**40, 2**63]) if way == "length" else len(raw)
    path.write_bytes(struct.pack("<Q", size) + raw + bytes(body))
    return f"{name} {way} {str(about)[:80]}"


def _spliced(head: dict, body: bytes, name: str, new: bytes) -> bytearray:
    """The numbers of a file with others in the place of one tensor's; the head's places are put right."""
    begin, end = head[name]["data_offsets"]
    more = len(new) - (end - begin)
    for other, about in head.items():
        if other != "__metadata__" and about["data_offsets"][0] >= end and other != name:
            about["data_offsets"] = [place + more for place in about["data_offsets"]]
    head[name]["data_offsets"] = [begin, end + more]
    return bytearray(bytes(body[:begin]) + new + bytes(body[end:]))


def _rows(path: Path, root: Path, rng: random.Random) -> str:
    """A column of a parquet file: gone, of another type, or with another value."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    columns = {key: table[key].to_pylist() for key in table.column_names}
    way = rng.choice(["value", "value", "gone", "text", "rows", "null", "list"])
    if way == "gone":
        del columns[name]
    elif way == "rows":
        columns = {key: rng.choice([[], values[:1], values * 2]) for key, values in columns.items()}
        most = min(map(len, columns.values()))
        columns = {key: values[:most] for key, values in columns.items()}
    else:
        column = columns[name]
        at = rng.randrange(len(column))
        if way == "value" and isinstance(column[at], (int, float)):
            column[at] = (
                rng.choice([-1, 0, 1, 7, 2**31, 2**62])
                if isinstance(column[at], int)
                else rng.choice([math.inf, -1.0, 1e30, 1e-9])
            )
        elif way == "null":
            column[at] = None
        elif way == "list":
            columns[name] = [[value] for value in column]
        else:
            columns[name] = [str(value) for value in column]
    try:
        pq.write_table(pa.table(columns), path)
    except (pa.ArrowException, OverflowError):
        path.write_bytes(path.read_bytes()[:-9])
    return f"{name} {way}"


def _picture(path: Path, root: Path, rng: random.Random) -> str:
    from PIL import Image

    way = rng.choice(["size", "bomb", "mode", "format", "chunk"])
    if way == "size":
        Image.new("RGB", rng.choice([(16, 17), (1, 1), (160, 160), (3000, 3000)])).save(path)
    elif way == "mode":
        Image.new(rng.choice(["L", "P", "RGBA", "1", "I;16"]), (16, 16)).save(path)
    elif way == "format":
        Image.new("RGB", (16, 16)).save(path, rng.choice(["GIF", "TIFF", "BMP", "JPEG", "EPS", "PDF"]))
    elif way == "bomb":
        data = bytearray(path.read_bytes())
        data[16:24] = struct.pack(">II", *rng.choice([(30000, 30000), (12000, 12000), (2**31 - 1, 2**31 - 1), (0, 16)]))
        _crc(data)
        path.write_bytes(data)
    else:
        data = bytearray(path.read_bytes())
        at = rng.randrange(8, len(data))
        data[at : at + 4] = struct.pack(">I", rng.choice([0, 1, 2**31 - 1, 2**32 - 1]))
        path.write_bytes(data)
    return f"picture: {way}"


def _crc(png: bytearray) -> None:
    import zlib

    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
