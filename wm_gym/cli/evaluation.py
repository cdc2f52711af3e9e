"""Which commands measure how far a world can be trusted?"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from wm_gym.cli.command import WORLD_HELP, Command, part, positional
from wm_gym.evaluation.suite.options import EvaluateOptions, ProbeOptions


class Evaluate(Command):
    """Measure a world beside its physics twin, or any environment: drift, control, physics, uncertainty and more."""

    name = "evaluate"
    example = "wm-gym evaluate Push-v0 --only drift uncertainty --out trust"

    world: Annotated[str, "WORLD"] = positional(help=WORLD_HELP)
    options: EvaluateOptions = part(
        "progress", "decoder_episodes", "decoder_updates", "starts", guarantee_episodes="promised-episodes"
    )

    def run(self) -> None:
        from wm_gym.evaluation.suite.suite import evaluate

        out = evaluate(self.world, self.options)
        print(f"measured: {out}\nnext: wm-gym report {out}")


class Report(Command):
    """Turn the measurements of a world into one HTML page: what to trust, what fails, what to do."""

    name = "report"
    example = "wm-gym report outputs/Push-v0-evaluation"

    folder: Annotated[str, "FOLDER"] = positional()
    "A folder of measurements, as `wm-gym evaluate` writes it."
    out: Annotated[str, "FILE.html"] | None = None
    "The page to write (default: FOLDER/report.html)."

    def run(self) -> None:
        from wm_gym.evaluation.report.page import write_trust_report

        print(f"written: {write_trust_report(self.folder, self.out)}")


class Probe(Command):
    """Ask a pretrained video model to move a block, before any training."""

    name = "probe-zero-shot"
    example = (
        "wm-gym probe-zero-shot --base Wan-AI/Wan2.2-TI2V-5B-Diffusers --image start.png --prompt 'push the block left'"
    )

    base: Annotated[str, "PATH_OR_HUB_ID"]
    "A diffusers pipeline: Wan 2.2 TI2V, or Stable Video Diffusion (which takes no prompt)."
    image: Annotated[str, "PICTURE"]
    "What the video begins with."
    prompt: str
    "What is asked, e.g. 'push the block left'."
    options: ProbeOptions = part("device")
    device: str = "auto"
    "auto, cpu or a CUDA device."
    out: Annotated[str, "DIR"] = "zero-shot"
    "probe.json and a film."

    def run(self) -> None:
        from pathlib import Path

        import imageio.v3 as iio
        import torch

        from wm_gym.common.files import write_json
        from wm_gym.evaluation.suite.zero_shot import probe

        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        image = iio.imread(self.image)[..., :3]
        result, films = probe(self.base, image, self.prompt, replace(self.options, device=device))
        out = Path(self.out)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "probe.json", {"base": self.base, "image": self.image, **result}, indent=1)
        iio.imwrite(out / "prompted.mp4", films[0], fps=8, macro_block_size=1)
        for name in ("prompted", "unprompted", "mirrored"):
            obeyed = result[name]["obeyed"]
            print(
                f"{name}: {obeyed['successes']} of {obeyed['n']} went {result['direction']} "
                f"[{obeyed['low']:.0%}, {obeyed['high']:.0%}]"
            )
        print(f"written: {out / 'probe.json'}")


COMMANDS = (Evaluate, Report, Probe)
