"""Are datasets read as they are in the wild: is what is damaged named, left out if asked, and is all else the same?"""

from __future__ import annotations

import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import write_rlds
from short import flags, short
from test_formats import CAMERA, folder_dataset, minari_dataset, pictures, write_v21

from wm_gym.cli import main
from wm_gym.data import DatasetError, LeRobotReader, LeRobotWriter, open_clips, open_reader
from wm_gym.data.formats import convert
from wm_gym.data.formats.lerobot_schema import feature, video_feature
from wm_gym.data.formats.video import VideoWriter

DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
LENGTH = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Six episodes whose pictures, actions and states are their own."""
    root = tmp_path_factory.mktemp("wild") / "whole"
    features = {
        CAMERA: video_feature(24, 32, 10),
        "action": feature("float32", 2, ["x", "$\\foo$"]),
        "observation.state": feature("float32", 1),
        "next.success": feature("bool"),
    }
    with LeRobotWriter(root, 10, features) as writer:
        for e in range(6):
            rng = np.random.default_rng(e)
            writer.add_episode(
                {
                    "action": rng.normal(size=(LENGTH, 2)).astype(np.float32),
                    "observation.state": rng.normal(size=(LENGTH, 1)).astype(np.float32),
                    "next.success": np.arange(LENGTH) == LENGTH - 1 if e % 2 else np.zeros(LENGTH, bool),
                },
                {CAMERA: pictures(LENGTH, seed=e)},
                f"task {e}",
            )
    return root


def edit(root: Path, name: str, change) -> None:
    table = pq.read_table(root / name)
    pq.write_table(change(table), root / name)


def replaced(table: pa.Table, name: str, values) -> pa.Table:
    at = table.schema.get_field_index(name)
    field = table.schema.field(at)
    return table.set_column(at, field, pa.array(values, field.type))


def with_row(name: str, row: int, value):
    """Put `value` into one row of a column."""
    return lambda root: edit(
        root,
        DATA,
        lambda table: replaced(
            table, name, [*table[name].to_pylist()[:row], value, *table[name].to_pylist()[row + 1 :]]
        ),
    )


def spoil_video(root: Path) -> None:
    """Overwrite what is stored of frame 25, on which those up to 29 build: all of episode 2."""
    import av

    path = root / VIDEO
    with av.open(str(path)) as file:
        at = [packet.pos for packet in file.demux(video=0) if packet.pos]
    data = bytearray(path.read_bytes())
    data[at[25] + 8 : at[25] + 72] = b"\xff" * 64
    path.write_bytes(data)


def cut_video(root: Path) -> None:
    (root / VIDEO).unlink()
    video = VideoWriter(root / VIDEO, 24, 32, 10)
    video.write(np.concatenate([pictures(LENGTH, seed=e) for e in range(6)])[:-1])
    video.close()


def drop_rows(rows):
    return lambda root: edit(
        root, DATA, lambda table: table.take(pa.array([i for i in range(table.num_rows) if i not in rows]))
    )


def drop_entry(root: Path) -> None:
    edit(root, EPISODES, lambda table: table.take(pa.array([0, 1, 3, 4, 5])))


DAMAGE = {  # what is done, the episode that it damages, words of the reason
    "a NaN": (with_row("action", 30, [float("nan"), 0]), 2, "'action' is .nan, 0.0. in frame 6"),
    "an infinite state": (with_row("observation.state", 71, float("inf")), 5, "'observation.state' is .inf. in frame"),
    "a number that is missing": (with_row("observation.state", 13, None), 1, "frame 1 does not have all its numbers"),
    "a flag that is missing": (with_row("next.success", 13, None), 1, "frame 1 does not have all its numbers"),
    "no last video frame": (cut_video, 5, "has 71 frames, but meta/episodes places it at frames 60 to 71"),
    "spoilt video": (spoil_video, 2, "is damaged at 2.500 s"),
    "a row that is missing": (drop_rows([40]), 3, "11 rows in data/ and 12 in meta/episodes"),
    "a frame_index twice": (with_row("frame_index", 40, 5), 3, "frame_index does not count from 0 to 11"),
    "no entry in meta/episodes": (drop_entry, 2, "missing in meta/episodes"),
}


@pytest.fixture(scope="module", params=DAMAGE)
def damaged(request, whole, tmp_path_factory):
    """(a damaged copy, the episode, words of why)."""
    change, episode, words = DAMAGE[request.param]
    root = shutil.copytree(whole, tmp_path_factory.mktemp("damaged") / "set")
    change(root)
    return root, episode, words


def assert_rest(clips, whole: Path, without: int) -> None:
    """The clips are those of the whole dataset without one episode, to the last bit."""
    theirs = open_clips(whole, progress=False)
    kept = [e for e in range(6) if e != without]
    rows = np.concatenate([np.arange(LENGTH * e, LENGTH * (e + 1)) for e in kept])
    assert np.array_equal(np.asarray(clips.frames[:]), theirs.frames[rows])
    for name in ("action", "proprioception", "success"):
        assert np.array_equal(getattr(clips, name), getattr(theirs, name)[rows]), name
    assert clips.episode_offset.tolist() == list(range(0, LENGTH * 5 + 1, LENGTH))
    assert clips.episode_success.tolist() == theirs.episode_success[kept].tolist()
    assert clips.meta["tasks"] == [f"task {e}" for e in kept] and clips.numbers == kept


def test_without_the_option_it_is_an_error_that_names_episode_and_option(damaged, tmp_path, capsys):
    root, episode, words = damaged
    for act in (
        lambda: open_clips(root, progress=False),
        lambda: convert.convert(root, tmp_path / "set", progress=False),
    ):
        with pytest.raises(DatasetError, match=rf"episode {episode}: .*{words}.*--skip-damaged"):
            act()
    assert main(["train", str(root), "--out", str(tmp_path / "world"), "--preset", "tiny"]) == 2
    assert main(["data", "convert", str(root), "--to", str(tmp_path / "set")]) == 2
    assert capsys.readouterr().err.count("--skip-damaged") == 2


def test_with_it_the_episode_is_named_and_the_rest_is_the_same(damaged, whole, tmp_path):
    root, episode, words = damaged
    for _ in range(2):  # the second time out of the cache
        with pytest.warns(UserWarning, match=rf"1 of 6 episodes .* left out: episode {episode}: .*{words}"):
            clips = open_clips(root, progress=False, skip_damaged=True)
        assert_rest(clips, whole, episode)
    assert clips.meta["dataset_hash"] != open_reader(root, skip_damaged=True).content_hash(CAMERA)
    with pytest.warns(UserWarning, match=rf"left out: episode {episode}: .*{words}"):
        to = convert.convert(root, tmp_path / "set", progress=False, skip_damaged=True)
    converted = open_clips(to, progress=False)
    assert np.array_equal(converted.frames, clips.frames[:]) and np.array_equal(converted.action, clips.action)
    left_out = json.loads((to / "meta/info.json").read_text())["wm_gym_source"]["left_out"]
    assert list(left_out) == [str(episode)] and str(tmp_path) not in left_out[str(episode)]


@pytest.mark.parametrize("damage", ["a flag that is missing", "no entry in meta/episodes", "spoilt video"])
def test_looking_names_the_damaged_and_goes_on(whole, tmp_path, capsys, damage):
    change, episode, words = DAMAGE[damage]
    change(root := shutil.copytree(whole, tmp_path / "set"))
    assert main(["data", "info", str(root)]) == 0
    seen = f"episode {episode}: " in capsys.readouterr().out
    assert seen or "is damaged at" in words  # which only decoding tells
    assert main(["data", "view", str(root), "--episodes", "2", "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("<video") == 2 and f"episode {episode}: " in page and f"<h2>Episode {episode}</h2>" not in page
    assert f"left out: episode {episode}: " in capsys.readouterr().err


def test_curate_names_the_damaged_and_training_takes_its_list(whole, tmp_path, capsys):
    from wm_gym.data.curation.selection import Selection
    from wm_gym.training.options import TrainOptions
    from wm_gym.training.trainer import _open

    root = shutil.copytree(whole, tmp_path / "set")
    DAMAGE["a NaN"][0](root)
    assert main(["data", "curate", str(root), "--out", str(tmp_path / "list.json")]) == 0
    told = capsys.readouterr().out
    assert "damaged, and not looked at: episode 2: 'action' is" in told and "--skip-damaged --filter" in told
    chosen = Selection.load(tmp_path / "list.json")
    chosen.drop = {4: ["by hand"]}  # as the dataset numbers them
    chosen.save(tmp_path / "chosen.json")
    with pytest.warns(UserWarning, match="episode 2"):
        (clips,) = _open([root], TrainOptions(filters=(tmp_path / "chosen.json",), skip_damaged=True))
    assert clips.meta["tasks"] == [f"task {e}" for e in (0, 1, 3, 5)] and clips.numbers == [0, 1, 3, 5]


def test_training_leaves_them_out(whole, tmp_path, capsys):
    root = shutil.copytree(whole, tmp_path / "set")
    DAMAGE["a NaN"][0](root)
    to = ["--out", str(tmp_path / "world")]
    code = main(["train", str(root), *to, "--preset", "tiny", "--skip-damaged", "--cpu", *flags(**short(1))])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "episode 2: 'action' is" in printed.err and "5 episodes" in (tmp_path / "world/spec.yaml").read_text()


def test_where_all_are_damaged_there_is_nothing_to_go_on_with(whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "set")
    (root / VIDEO).write_bytes((root / VIDEO).read_bytes()[:500])
    for act in (
        lambda: open_clips(root, skip_damaged=True, progress=False),
        lambda: convert.convert(root, tmp_path / "to", skip_damaged=True, progress=False),
    ):
        with pytest.raises(DatasetError, match="every episode is damaged, episodes 0, 1, 2, 3, 4, 5: cannot open"):
            act()


def test_rows_in_another_order_are_put_in_theirs(whole, tmp_path):
    order = np.random.default_rng(0).permutation(6 * LENGTH)
    theirs = LeRobotReader(whole).columns()
    for name, without in (("frame_index", []), ("index", ["frame_index"])):
        root = shutil.copytree(whole, tmp_path / name)
        edit(root, DATA, lambda table: table.take(pa.array(order)).drop_columns(without))
        ours = LeRobotReader(root).columns([key for key in theirs if key not in without])
        for key, value in ours.items():
            assert np.array_equal(value, theirs[key]), key


def test_gaps_in_the_numbers_are_no_damage(whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "set")
    for name in (DATA, EPISODES):
        edit(
            root,
            name,
            lambda table: replaced(
                table, "episode_index", [[0, 2, 5, 6, 9, 11][i] for i in table["episode_index"].to_pylist()]
            ),
        )
    clips, theirs = open_clips(root, progress=False), open_clips(whole, progress=False)
    assert np.array_equal(clips.frames, theirs.frames) and np.array_equal(clips.action, theirs.action)
    with pytest.raises(DatasetError, match="not numbered from 0 to 5, so none can be added"):
        LeRobotWriter(root)
    DAMAGE["a NaN"][0](root)
    with pytest.raises(DatasetError, match="episode 2 .episode_index 5.: 'action' is"):
        open_clips(root, progress=False)


@pytest.mark.parametrize("video", [True, False])
def test_v21(tmp_path, video):
    root = write_v21(tmp_path / "old", [3, 5, 4, 6], video)
    theirs = open_clips(write_v21(tmp_path / "whole", [3, 5, 4, 6], video), progress=False)
    (root / "data/chunk-000/episode_000001.parquet").unlink()
    lines = (root / "meta/episodes.jsonl").read_text().splitlines()
    (root / "meta/episodes.jsonl").write_text("\n".join([lines[0], lines[1], lines[3]]))
    with pytest.raises(DatasetError, match="episode 2: missing in meta/episodes.*--skip-damaged"):
        open_reader(root)
    with pytest.warns(
        UserWarning,
        match="2 of 4 episodes .* episode 1: missing data/chunk-000/episode_000001.parquet; episode 2: missing in",
    ):
        clips = open_clips(root, progress=False, skip_damaged=True)
    rows = [0, 1, 2, *range(12, 18)]
    assert np.array_equal(clips.frames[:], theirs.frames[rows]) and np.array_equal(clips.action, theirs.action[rows])


def test_the_cache_tells_what_is_whole_from_what_is_not(whole, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clips = open_clips(whole, cache_dir=tmp_path, progress=False, skip_damaged=True)  # nothing to say
    assert "damaged" not in clips.meta
    assert clips.meta["dataset_hash"] == open_clips(whole, cache_dir=tmp_path, progress=False).meta["dataset_hash"]
    assert len(list((tmp_path / "frames").iterdir())) == 2
    root = shutil.copytree(whole, tmp_path / "set")
    spoil_video(root)
    with pytest.warns(UserWarning, match="episode 2"):
        open_clips(root, cache_dir=tmp_path, progress=False, skip_damaged=True)
    with pytest.raises(DatasetError, match="is damaged at"):
        open_clips(root, cache_dir=tmp_path, progress=False)


def test_a_conversion_goes_on_where_it_left_some_out(whole, tmp_path, interrupted):
    root = shutil.copytree(whole, tmp_path / "set")
    spoil_video(root)
    with_row("action", 71, [float("inf"), 0])(root)

    def run(to):
        with pytest.warns(UserWarning, match="2 of 6 episodes .* episode 2: .*; episode 5: "):
            convert.convert(root, to, progress=False, skip_damaged=True, shard_frames=2 * LENGTH)
        return {path.relative_to(to): path.read_bytes() for path in to.rglob("*") if path.is_file()}

    unbroken = run(tmp_path / "a")
    assert open_reader(tmp_path / "a").tasks == ["task 0", "task 1", "task 3", "task 4"]
    with interrupted(3):
        convert.convert(root, tmp_path / "b", progress=False, skip_damaged=True, shard_frames=2 * LENGTH)
    assert run(tmp_path / "b") == unbroken
    shutil.copytree(whole, root, dirs_exist_ok=True)  # mended since: it is another one
    with pytest.raises(DatasetError, match="was converted from the dataset 'set', now it would be 'set': content"):
        convert.convert(root, tmp_path / "b", progress=False)


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda root: np.savez(root / "ep1.npz", action=np.full((6, 2), np.nan), state=np.ones((6, 1))),
            "'action' is .nan",
        ),
        (
            lambda root: np.savez(root / "ep1.npz", action=np.ones((9, 2)), state=np.ones((6, 1))),
            "expected a row a frame",
        ),
        (
            lambda root: np.savez(root / "ep1.npz", actions=np.zeros((6, 2)), obs=np.zeros((6, 1))),
            "holds actions, obs and no action; expected arrays called action and, .* state, reward, success",
        ),
        (lambda root: (root / "ep1.mp4").write_bytes((root / "ep1.mp4").read_bytes()[:900]), "cannot open ep1.mp4"),
        (lambda root: (root / "ep1.wrist.mp4").unlink(), "missing ep1.wrist.mp4"),
    ],
)
def test_folders_of_videos(tmp_path, change, words):
    root = folder_dataset(tmp_path / "set")
    shutil.copy(root / "ep0.mp4", root / "ep2.mp4")
    shutil.copy(root / "ep0.wrist.mp4", root / "ep2.wrist.mp4")
    shutil.copy(root / "ep0.npz", root / "ep2.npz")
    change(root)
    with pytest.raises(DatasetError, match=rf"episode 1 .ep1.: .*{words}.*--skip-damaged"):
        open_reader(root).columns()
    with pytest.warns(UserWarning, match=rf"1 of 3 episodes .* episode 1 .ep1.: .*{words}"):
        clips = open_clips(root, progress=False, skip_damaged=True)
    assert np.array_equal(clips.frames[:], np.concatenate([pictures(4)] * 2)) and len(clips.action) == 8


def test_a_csv_without_actions_says_what_it_has(tmp_path):
    root = folder_dataset(tmp_path / "set", "csv")
    for path in root.glob("*.csv"):
        path.write_text(path.read_text().replace("action_", "joint_"))
    with pytest.raises(DatasetError, match="holds joint_x, joint_y and no action; expected columns that begin"):
        open_reader(root)


def test_rlds(tmp_path):
    pytest.importorskip("google_crc32c")
    write_rlds(tmp_path / "set", episodes=4)
    path = tmp_path / "set/tiny-train.tfrecord-00000-of-00001"
    theirs = open_reader(tmp_path / "set", fps=5)
    expected, data = theirs.columns()["action"], bytearray(path.read_bytes())
    data[len(data) // 4 + 40] ^= 1
    path.write_bytes(data[:-100])
    with pytest.raises(DatasetError, match="episode 1: .*checksum.*episode 3: .* are left.*--skip-damaged"):
        open_reader(tmp_path / "set", fps=5)
    reader = open_reader(tmp_path / "set", fps=5, skip_damaged=True)
    rows, _ = reader.sound_rows()
    assert reader.sound == [0, 2] and np.array_equal(reader.columns()["action"][rows], expected[:6])
    assert [row for row, _ in reader.iter_frames("observation.images.image")] == rows.tolist()


def test_minari(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    h5py = pytest.importorskip("h5py")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    minari_dataset(tmp_path)
    with h5py.File(tmp_path / "dots-v0/data/main_data.hdf5", "r+") as file:
        file["episode_1/actions"][2] = np.nan
    with pytest.raises(DatasetError, match="episode 1: 'action' is .nan, nan. in frame 2.*--skip-damaged"):
        open_reader(tmp_path / "dots-v0", fps=4).columns()
    reader = open_reader(tmp_path / "dots-v0", fps=4, skip_damaged=True)
    assert np.isfinite(reader.columns()["action"][:5]).all() and reader.sound == [0]
    with h5py.File(tmp_path / "dots-v0/data/main_data.hdf5", "r+") as file:
        values = file["episode_1/observations/pos"][:3]
        del file["episode_1/observations/pos"]
        file["episode_1/observations/pos"] = values
    with pytest.raises(DatasetError, match="episode 1: observation.state has 3 rows of 2 numbers, expected 5"):
        open_reader(tmp_path / "dots-v0", fps=4).columns(["observation.state"])


NAMES = ["$\\foo$", "$", "_hidden", "", "two\nlines", "<b>bold</b>", "a$x^{$b", "\\frac", "100 %", "nul\0"]


def test_any_name_is_shown_as_it_is(tmp_path):
    from matplotlib.mathtext import MathTextParser

    from wm_gym.common.page import axes, legend
    from wm_gym.data.curation.view import view_page

    with LeRobotWriter(
        tmp_path / "$\\set_$", 10, {CAMERA: video_feature(24, 32, 10), "action": feature("float32", len(NAMES), NAMES)}
    ) as writer:
        writer.add_episode({"action": np.zeros((4, len(NAMES)), np.float32)}, {CAMERA: pictures(4)}, "$\\task$")
    page = view_page(open_reader(tmp_path / "$\\set_$"))
    assert "$\\foo$" in page and "<b>bold" not in page and "$\\task$" in page
    figure, (axis,) = axes(1, (3, 2))
    legend(axis, [axis.plot([0, i])[0] for i in range(len(NAMES))], NAMES)
    axis.set_title("$\\foo$")
    axis.set_yticks([0, 1], ["$\\foo$", "$x$"])
    parsed, real = [], MathTextParser.parse
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MathTextParser, "parse", lambda *args, **more: parsed.append(args) or real(*args, **more))
        figure.savefig(io.BytesIO())
    assert not parsed
    assert [one.get_text() for one in axis.get_legend().get_texts()][:9] == [*NAMES[:4], "two\ufffdlines", *NAMES[5:9]]
