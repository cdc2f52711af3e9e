"""Does the page of a world's measurements say what was measured, all of it and nothing else, without a network?"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from html.parser import HTMLParser
from typing import get_type_hints

import numpy as np
import pytest

from wm_gym.cli import main
from wm_gym.common.files import write_json
from wm_gym.common.records import Blank, Undefined, or_blank
from wm_gym.common.statistics import Mean, mean, median, rate, ratio
from wm_gym.evaluation.judges.attribution import Judged, JudgeErrors
from wm_gym.evaluation.kept import KEYS
from wm_gym.evaluation.metrics.control import (
    DeltaPsnr,
    DirectionsResult,
    Distracted,
    DistractorResult,
    LossRatio,
    Obedience,
    Rest,
)
from wm_gym.evaluation.metrics.drift import Drifted, DriftResult
from wm_gym.evaluation.metrics.perceptual import Looks
from wm_gym.evaluation.metrics.survival import time_to_failure
from wm_gym.evaluation.metrics.violations import Broken
from wm_gym.evaluation.probes.inverse import InverseAccuracy, InverseError
from wm_gym.evaluation.ranking.agreement import agreement, split_half
from wm_gym.evaluation.ranking.gating import gating
from wm_gym.evaluation.ranking.policies import PoliciesResult
from wm_gym.evaluation.report.films import overlay
from wm_gym.evaluation.report.found import Found, result_types
from wm_gym.evaluation.report.page import read_measurements, report_html, write_trust_report
from wm_gym.evaluation.report.sections import SECTIONS, all_sections
from wm_gym.evaluation.report.summary import failures, headline, trusted
from wm_gym.evaluation.suite.context import Context
from wm_gym.evaluation.suite.setting import Setting
from wm_gym.evaluation.suite.suite import measure
from wm_gym.evaluation.suite.tasks import (
    TASKS,
    ControlResult,
    Distances,
    FidelityResult,
    HiddenShift,
    InverseResult,
    PhysicsIQ,
    PhysicsIQResult,
    ShiftsResult,
    Task,
    ViolationsResult,
    WorstEvent,
)
from wm_gym.evaluation.trust.coverage import coverage, ranks_errors
from wm_gym.evaluation.trust.injected import DetectorQuality
from wm_gym.evaluation.trust.uncertainty import ShiftSeen, Trust, UncertaintyResult, dense_calibration
from wm_gym.worlds.calibration import Calibration

EPISODES, STEPS, FPS = 12, 20, 10
ROLL_OUTS = {"world": 1.0, "physics": 0.1, "tokenizer": 0.2, "perturbed": 0.4, "frozen": 3.0}
VOID = ("br", "hr", "img", "input", "link", "meta")


def made_drift(rng, lost=4, agent=""):
    """What `drift` returns, of a world that loses the object in `lost` of 12 roll-outs."""

    def stats(times, gone):
        near = times * rng.uniform(0.5, 1.5, EPISODES)
        return Drifted(
            object_cm=median(2 * near),
            end_effector_cm=median(near),
            lost=rate(np.arange(EPISODES) < gone),
            displacement=median(1 + 0.1 * near),
            mask_iou=mean(0.9 - 0.1 * near),
            colour_distance=mean(5 * near),
            psnr_db=mean(30 - near),
        )

    at = {
        f"{s}s": {name: stats(s * times, lost * (name == "world")) for name, times in ROLL_OUTS.items()} for s in (1, 2)
    }
    walks = rng.random((EPISODES, STEPS)).cumsum(1)
    life = {name: time_to_failure(times * walks, 5.0, FPS) for name, times in ROLL_OUTS.items()}
    return DriftResult(at, {f"{s}s": rate(np.ones(EPISODES, bool)) for s in (1, 2)}, life, agent)


def made_fidelity():
    at = {
        name: Looks(psnr_db=30 - times, ssim=1 - 0.01 * times, st_lpips=0.387 * times)
        for name, times in ROLL_OUTS.items()
        if name in ("world", "tokenizer", "frozen")
    }
    distances = Distances(4, 16, "I3D", {"world": 310.0, "tokenizer": 240.0, "frozen": 900.0, "floor": 214.0})
    return FidelityResult(EPISODES, [1, 10], {"at_1": at, "at_10": at}, {"at_10": distances})


def made_control(rng, hits=11):
    gain = {
        name: DeltaPsnr(*(mean(rng.normal(level, 1, EPISODES)) for _ in range(4)))
        for name, level in (("world", 4), ("tokenizer", 6), ("zero_action", 0))
    }
    way = {
        name: {
            "frames": Obedience(
                same_side=rate(np.arange(12) < n),
                within_45=rate(np.arange(12) < n),
                chance_within_45=None,
                along_cm=mean(rng.normal(4, 1, 12)),
            )
        }
        for name, n in (("world", hits), ("physics", 12))
    }
    cm = median(rng.random(EPISODES))
    return ControlResult(
        delta_psnr=gain,
        directions=DirectionsResult(rate([True] * 12), way),
        no_op={name: Rest(mean(rng.random(5)), mean([0.4]), cm, cm) for name in ("world", "tokenizer")},
        loss_ratio={"world": LossRatio(ratio([7.5, 8.5], [1, 1]), 1.0, 8.0)},
        distractor=DistractorResult(rate([True]), {"world": Distracted(ratio([0.05], [1]), ratio([1], [0]))}),
    )


def made_uncertainty(rng):
    error = rng.random((EPISODES, STEPS, 4, 4)) * np.linspace(0.1, 1, STEPS)[:, None, None]
    uncertainty = np.broadcast_to(np.array([0.2, 0.3, 0.3, 0.2])[:, None, None], (EPISODES, STEPS, 4, 4, 4))
    dense = dense_calibration(uncertainty, error, np.array([0.1, 0.3, 0.6]))
    of_frames, steps = error.mean((2, 3)), (1, 10, 20)
    ranks = ranks_errors(np.ones_like(of_frames), of_frames, steps, resamples=20)
    return UncertaintyResult(
        episodes=EPISODES,
        dense={"autoregressive": dense, "teacher_forced": dense},
        ranks=ranks,
        coverage=coverage(of_frames, np.full_like(of_frames, 0.5), 0.9, steps),
        limit=rate([True] * 12),
        trust=Trust(moments=252, kept=0.5),
    )


def made_violations():
    def found(n):
        return Broken(
            per_100_frames=n / 2,
            episodes=rate(np.arange(60) < n),
            excess_median=0.5 if n else None,
            excess_worst=1.0 if n else None,
            unit="cm",
            abstained=0.25,
        )

    rows = {
        "world": {"teleport": found(30), "duplication": found(0)},
        "physics through the tokenizer": {"teleport": found(1), "duplication": found(0)},
    }
    return ViolationsResult(
        episodes=60,
        steps=STEPS,
        limits={"teleport": float("inf")},
        detector={"teleport": DetectorQuality(recall=rate([True] * 9 + [False]), precision=None, false_events=0)},
        violations=rows,
        worst=[WorstEvent(kind="teleport", severity=1.0, unit="cm", episode=3, step=7, frame=0)],
    )


def made_policies(rng):
    world, physics = rng.random((4, 30)) < 0.7, rng.random((4, 30)) < 0.5
    rows = [
        {"agent": f"agent-{i}", "world_name": "Tiny-v0", "world": rate(w), "physics": rate(p)}
        for i, (w, p) in enumerate(zip(world, physics))
    ]
    powered = {"half_width": 0.2, "holds": rate([1, 1, 0, 1])}
    return PoliciesResult(
        episodes=30,
        seed=0,
        policies=rows,
        agreement={"all": {**agreement(world, physics), "physics_split_half": split_half(physics)}},
        perturbed={"all": {"policies": 4, **agreement(physics[:, ::-1], physics)}},
        drawn={"all": Blank("every policy sees physics as the world draws it")},
        gating={"all": gating(world, physics, rng.random((4, 30)))},
        prediction_powered={"all": {"pairs": 3, "physics_alone": powered, "with_the_world": powered}},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with every measurement of a world that is good at some things."""
    folder, rng = tmp_path_factory.mktemp("measured"), np.random.default_rng(0)
    calibrated = Calibration(0.1, 2.5, 0.4, 0.2, [[0.0, 15], [0.3, 0]], 100, STEPS, "100 episodes of held-out")
    setting = Setting(
        world="Tiny-v0",
        world_folder="envs/Tiny-v0",
        twin="wm_gym/TinyPyBullet-v0",
        episodes=EPISODES,
        fps=FPS,
        horizon=STEPS,
        seed=0,
        calibration=calibrated,
        trained_on="<b>two</b> & more",
    )
    measured = {
        "fidelity": made_fidelity(),
        "drift": made_drift(rng),
        "control": made_control(rng),
        "uncertainty": made_uncertainty(rng),
        "violations": made_violations(),
        "policies": made_policies(rng),
        "shifts": ShiftsResult(
            starts=30,
            visible={"size": ShiftSeen(score=0.97, unrest=0.97, novelty=0.7), "camera": Blank("it has no camera")},
            hidden={"mass": HiddenShift(0.55), "friction": Blank("it has no friction")},
        ),
        "agent_drift": made_drift(rng, agent="ppo-Tiny-v0"),
        "inverse": InverseResult(
            real=InverseAccuracy(mae={"dx": 0.1}, r2={"dx": 0.9}, strict=mean([0.8, 0.9])),
            made={"world": {"at_5": InverseError(error=mean([0.2]), excess=mean([0.1, 0.123]))}},
        ),
        "judge": JudgeErrors(
            episodes=5,
            physics=rate([1, 0, 0, 1, 1]),
            judgements={
                f"{who}, {frames} frames": Judged(rate([1, 0, 0]), rate([1, 0, 0]), rate([1, 0, 0]))
                for who in ("learned", "physics")
                for frames in ("world's", "true")
            },
        ),
        "physics_iq": PhysicsIQResult(
            5, {"mass": 1.1}, {"world": PhysicsIQ(85.25, *(mean([x, x + 0.01]) for x in (0.8, 0.9, 0.7, 0.001)))}
        ),
        "setting": setting,
    }
    for name, value in measured.items():
        write_json(folder / f"{name}.json", asdict(value))
    frames = rng.integers(0, 255, (2, STEPS + 1, 16, 16, 3), np.uint8)
    np.savez(
        folder / "films.npz",
        world=frames,
        physics=frames[::-1],
        worst_frames=frames[:1, :2],
        uncertainty=rng.random((2, STEPS, 4, 4)).astype(np.float16),
    )
    return folder


@pytest.fixture(scope="module")
def html(made):
    return write_trust_report(made).read_text()


@pytest.fixture
def copy(made, tmp_path):
    """The folder again, to spoil."""
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


class Page(HTMLParser):
    """Which tags are open, which addresses there are, and the text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.addresses, self.words, self.sections = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        self.sections += [value for name, value in attributes if tag == "section" and name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_needs_no_network(html):
    page = Page(html)
    assert not page.open and len(page.addresses) > 12 and len(html) < 6_000_000
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert page.sections == [*SECTIONS, "care"]


def test_the_summary_comes_first_with_its_numbers(html, made):
    words = " ".join(" ".join(Page(html).words).split())
    assert headline(read_measurements(made)) in words
    for said in (
        "Trust Tiny-v0 for 15 steps (1.5 s) from a start",
        "The object is lost in 33 % [14 to 61 %] of 12",
        "wm-gym record wm_gym/TinyPyBullet-v0 --policy noisy",
        "teleport: in 50 % [38 to 62 %] of 60 episodes",
        "A shift of mass goes unnoticed: AUROC 0.55",
        "0.387",
        "310",
        "guaranteed were 90 %",
    ):
        assert said in words, said
    assert html.index('class="summary"') < min(html.index(f'id="{name}"') for name in SECTIONS)


def test_what_is_undefined_says_why_and_is_no_number(html):
    for why in ("one side does not vary", "one start only", "no event", "it found nothing"):  # a flat signal ranks none
        assert f"<td>undefined<small class=why>{why}</small></td>" in html, why
    assert "<small>no interval, n = 1</small>" in html
    words = "".join(Page(html).words).lower()
    assert "nan" not in words.split() and "none %" not in words and "inf" not in words.split()


def test_text_is_escaped(html):
    assert "trained on &lt;b&gt;two&lt;/b&gt; &amp; more" in html and "<b>two</b>" not in html


def test_missing_measurements_are_named_with_their_commands(made):
    found = read_measurements(made)
    html = report_html(Found(setting=found.setting, films=found.films))
    for name in result_types():
        command = "wm-gym evaluate-policies" if name == "policies" else f"wm-gym evaluate envs/Tiny-v0 --only {name}"
        assert f"there is no <code>{name}.json</code>" in html and command in html
    assert html.count("Not measured: there is no") == len(result_types())


def test_one_measurement_alone_makes_a_page(tmp_path):
    write_json(tmp_path / "fidelity.json", asdict(made_fidelity()))
    page = Page(write_trust_report(tmp_path, tmp_path / "out" / "page.html").read_text())
    words = " ".join(page.words)
    assert not page.open and "There is no" in words and "films.npz" in words
    assert "wm-gym evaluate WORLD --only control" in words


def test_an_empty_folder_says_what_to_do(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path) in said and "drift.json" in said and "measure it first: wm-gym evaluate WORLD" in said


def test_the_command_writes_where_it_is_told(tmp_path, capsys):
    write_json(
        tmp_path / "shifts.json", {"visible": {}, "hidden": {"mass": {"undefined": "it has no mass"}}, "starts": 3}
    )
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    assert str(tmp_path / "page.html") in capsys.readouterr().out and (tmp_path / "page.html").is_file()


def spoil(folder, name, change):
    value = json.loads((folder / f"{name}.json").read_text())
    change(value)
    (folder / f"{name}.json").write_text(json.dumps(value))


def test_nan_is_refused_but_for_empty_bins(copy):
    uncertainty = json.loads((copy / "uncertainty.json").read_text())
    assert 0 in uncertainty["dense"]["autoregressive"]["reliability"]["n"]  # such bins hold NaN, and are no error
    spoil(copy, "fidelity", lambda value: value["looks"]["at_1"]["world"].update(psnr_db=float("nan")))
    with pytest.raises(
        ValueError, match="fidelity.json holds .* not finite at /looks/at_1/world/psnr_db.*--only fidelity"
    ):
        read_measurements(copy)


def test_a_lacking_number_names_its_file(copy):
    (copy / "drift.json").unlink()
    spoil(copy, "control", lambda value: value["no_op"]["world"].pop("flicker"))
    with pytest.raises(ValueError, match="control.json is not as .*/no_op/world lacks flicker.*--only control"):
        write_trust_report(copy)
    (copy / "control.json").write_text("{")
    with pytest.raises(ValueError, match="control.json is no JSON"):
        write_trust_report(copy)


def test_films_of_other_lengths_are_refused(copy):
    frames = np.zeros((1, 3, 8, 8, 3), np.uint8)
    np.savez(copy / "films.npz", world=frames, physics=frames, uncertainty=np.zeros((1, 3, 2, 2), np.float16))
    with pytest.raises(ValueError, match=r"uncertainty \[1, 3, 2, 2\]; expected .*--only films"):
        write_trust_report(copy)


def test_a_rule_fires_on_its_number_only():
    rng = np.random.default_rng(0)
    assert any("lost in 33 %" in each.what for each in failures(Found(results={"drift": made_drift(rng)})))
    assert not any("lost" in each.what for each in failures(Found(results={"drift": made_drift(rng, lost=0)})))
    few, all_ = (failures(Found(results={"control": made_control(rng, hits)})) for hits in (3, 12))
    assert any("--policy random" in each.command and "25 %" in each.what for each in few)
    assert not any("command" in each.what for each in all_)
    uncalibrated = failures(Found(results={"uncertainty": made_uncertainty(rng)}))
    assert any("no calibration" in each.what for each in uncalibrated)


def test_nothing_measured_is_nothing_claimed():
    found = Found(results={"fidelity": made_fidelity()})
    assert "not known" in headline(found) and not trusted(found) and not failures(found)


def test_uncertainty_is_drawn_where_it_is():
    frame, uncertainty = np.full((8, 8, 3), 100, np.uint8), np.zeros((2, 2))
    uncertainty[0, 1] = 1
    drawn = overlay(frame, uncertainty, 1.0)
    assert (drawn[:4, 4:, 0] > 180).all() and (drawn[4:] == 100).all() and (drawn[:4, :4] == 100).all()


def keys_of(value):
    """All keys of a JSON value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (set(value) if isinstance(value, dict) else set()).union(*map(keys_of, inside))


def test_the_committed_results_of_earlier_versions_are_read(repository, tmp_path):
    folder = repository / "benchmarks" / "results" / "evaluation_Push-v0"
    found = read_measurements(folder)
    assert set(found.results) == set(result_types()) and not found.undefined
    committed = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("drift", "control", "violations")}
    assert {"deaf", "nudged"} <= keys_of(committed) and not keys_of(json.loads(json.dumps(asdict(found)))) & set(KEYS)
    drift, control, violations = (committed[name]["result"] for name in committed)
    assert found.drift.at["30s"]["perturbed"].object_cm == drift["at_30s"]["nudged"]["object_cm"]
    assert found.control.delta_psnr["zero_action"].random == control["delta_psnr"]["deaf"]["random"]
    assert found.control.no_op["world"].frames_cm["median"] == control["no_op"]["world"]["frames"]["median_cm"]
    assert [one.kind for one in found.violations.worst] == [one["class"] for one in violations["worst"]]
    assert not Page(report_html(found)).open


def test_an_error_of_ours_is_no_blank(made, monkeypatch):
    """A field that a producer renames, a key that is not there: the page is not written, rather than with a gap."""
    found = read_measurements(made)
    world = found.drift.at["2s"].pop("world")
    with pytest.raises(KeyError, match="world"):
        report_html(found)
    found.drift.at["2s"]["world"] = world
    renamed = {key if key != "rate" else "share": value for key, value in world.lost.items()}
    found.drift.at["2s"]["world"] = replace(world, lost=renamed)
    with pytest.raises(KeyError, match="rate"):
        report_html(found)
    with pytest.raises(TypeError, match="object"):
        Drifted(**{key.replace("object_cm", "object"): value for key, value in vars(world).items()})


def test_a_section_takes_what_its_task_gives():
    """So does the summary; mypy sees neither, as both go by a name."""
    taken = {name: get_type_hints(build)["data"] for name, (_, build) in SECTIONS.items() if name != "films"}
    assert taken == result_types() and set(all_sections()) == set(SECTIONS)
    with pytest.raises(TypeError, match="control is a FidelityResult, expected a ControlResult"):
        report_html(Found(results={"control": made_fidelity()}))


@dataclass(frozen=True)
class Toy:
    """What a <toy> measures."""

    episodes: int
    brightness: dict[str, Mean | Blank]
    """Of the last frame, of 255 levels."""
    darkest: list[float] | None = None


def measure_toy(context: Context) -> Toy:
    return Toy(2, {"world": mean([0.01, 0.02]), "physics": Blank("it is dark")})


def test_a_measurement_without_a_section_shows_every_field(copy, monkeypatch):
    monkeypatch.setitem(TASKS, "toy_brightness", Task(measure_toy))
    assert "--only toy_brightness --import test_trust_report" in write_trust_report(copy).read_text()
    write_json(copy / "toy_brightness.json", asdict(TASKS["toy_brightness"].measure(None)))
    page = Page(html := write_trust_report(copy).read_text())
    assert not page.open and page.sections[-2:] == ["toy_brightness", "care"]
    for said in (
        "<h2>Toy brightness</h2>",
        "<p>What a &lt;toy&gt; measures.</p>",
        "<th>episodes</th><td>2</td>",
        '<tr class="world"><th>brightness, the world</th><td>0.0150<small>',
        "<small class=why>Of the last frame, of 255 levels.</small>",
        "<td>undefined<small class=why>it is dark</small></td>",
    ):
        assert said in html, said
    with pytest.raises(TypeError, match="darkest is a ndarray, which no table can show"):
        report_html(Found(results={"toy_brightness": Toy(2, {}, np.zeros(3))}))
    spoil(copy, "toy_brightness", lambda value: value.pop("brightness"))
    with pytest.raises(ValueError, match="toy_brightness.json is not as .* lacks brightness"):
        write_trust_report(copy)


def test_a_result_of_an_unknown_measurement_is_not_left_out(copy):
    (copy / "notes.json").write_text("not JSON, and none of ours")
    write_trust_report(copy)
    job = {"function": f"{measure.__module__}:{measure.__name__}", "arguments": {}, "result": {}}
    write_json(copy / "toy_brightness.json", job)
    with pytest.raises(ValueError, match="toy_brightness.json is of a measurement that is not known.*--import MODULE"):
        write_trust_report(copy)


def test_a_task_that_does_not_say_what_it_gives_is_refused():
    with pytest.raises(TypeError, match=r"expected a dataclass, named in the signature: def <lambda>"):
        Task(lambda context: {"brightness": 1.0})
    with pytest.raises(ValueError, match=r"needs \['hold'\], which a Context does not have"):
        Task(measure_toy, ("hold",))


def test_only_undefined_becomes_a_blank():
    def fails(error):
        def measure():
            raise error

        return measure

    assert or_blank(fails(Undefined("no twin"))) == Blank("no twin")
    for error in (KeyError("mean"), ValueError("shape"), FileNotFoundError("file")):
        with pytest.raises(type(error)):
            or_blank(fails(error))


def test_blanks_say_why(html):
    words = " ".join(Page(html).words)
    assert "it has no camera" in words and "A shift of friction is undefined: it has no friction" in words
