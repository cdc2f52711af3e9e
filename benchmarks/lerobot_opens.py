"""Does lerobot itself open what we write, and read the same? Run in an environment of its own that has lerobot 0.4.4.

    python -m venv /tmp/lerobot && /tmp/lerobot/bin/pip install lerobot==0.4.4 numpy
    /tmp/lerobot/bin/python benchmarks/lerobot_opens.py DATASET EXPECTED.npz

EXPECTED.npz is made here, by our own reader: python benchmarks/lerobot_opens.py DATASET EXPECTED.npz --make
What was compared is added to results/lerobot_opens.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
from common import RESULTS, Bar, command

ROWS = 60  # compared, spread over the dataset
NAME, LEVELS = "lerobot_opens", 1.5  # of 255, that a frame may be off: videos are decoded by other libraries
BARS = {
    NAME: [
        Bar("datasets that lerobot opens and reads as we do", len, least=2),
        Bar("frames, levels of 255 apart", lambda found: max(row["levels"] for row in found.values()), most=LEVELS),
    ]
}


def make(dataset: str, expected: str) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from wm_gym.data import LeRobotReader

    reader = LeRobotReader(dataset)
    rows = np.unique(np.linspace(0, reader.offset[-1] - 1, ROWS).astype(int))
    arrays = {f"column:{key}": value[rows] for key, value in reader.columns().items()}
    for camera in reader.cameras:
        frames = {row: frame for row, frame in reader.iter_frames(camera) if row in set(rows.tolist())}
        arrays[f"frames:{camera}"] = np.stack([frames[int(row)] for row in rows])
    task = np.array([reader.tasks[int(np.searchsorted(reader.offset, row, side="right")) - 1] for row in rows])
    np.savez(expected, rows=rows, task=task, episodes=len(reader), **arrays)


def compare(dataset: str, expected: str) -> None:
    import torch

    # A torchvision built for CUDA does not load its operators on a CPU build of torch; lerobot uses none of them.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import lerobot
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    truth = np.load(expected)
    theirs = LeRobotDataset("local/dataset", root=dataset, video_backend="torchcodec")
    assert theirs.num_episodes == truth["episodes"], (theirs.num_episodes, truth["episodes"])
    worst = 0.0
    for i, row in enumerate(truth["rows"].tolist()):
        item = theirs[row]
        assert item["task"] == str(truth["task"][i]), (row, item["task"])
        for name in truth.files:
            kind, _, key = name.partition(":")
            if kind == "column":
                assert np.allclose(np.ravel(item[key].numpy()), np.ravel(truth[name][i])), (row, key)
            elif kind == "frames":
                frame = item[key].numpy().transpose(1, 2, 0) * 255
                worst = max(worst, float(np.abs(frame - truth[name][i]).max()))
    found = {
        "lerobot": lerobot.__version__,
        "episodes": theirs.num_episodes,
        "rows": len(truth["rows"]),
        "levels": worst,
    }
    print(found)
    assert worst < LEVELS, worst
    path = RESULTS / f"{NAME}.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(results | {Path(dataset).name: found}, indent=1))


if __name__ == "__main__":
    parser = command(__doc__, BARS)
    parser.add_argument("dataset")
    parser.add_argument("expected")
    parser.add_argument("--make", action="store_true")
    args = parser.parse_args()
    (make if args.make else compare)(args.dataset, args.expected)
