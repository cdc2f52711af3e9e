"""How does the step leave torch? As one ONNX graph with static shapes, for ONNX Runtime and TensorRT."""

import logging
import warnings

import torch

from wm_gym.engine.base import WorldStep, step_inputs
from wm_gym.worlds.world import World

OPSET = 24


def step_names(world: World, decode: bool) -> tuple[list[str], list[str]]:
    """Names of the graph's inputs and outputs, in the order of `WorldStep`."""
    memory, state = world.dynamics.memory_keys, ["proprioception", "error_distribution"]
    outputs = [*(f"next_{key}" for key in state), "reward", "success", "terminated", "uncertainty"]
    outputs += [*(f"next_{key}" for key in memory), *["frame"] * decode]
    return ["first", *state, "action", "noise", *memory], outputs


def export_step(world: World, batch: int, decode: bool = True, precision: str = "fp32") -> bytes:
    """The step as a serialized ONNX model (opset 24), its weights inside."""
    inputs, outputs = step_names(world, decode)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it counts the torchvision operators that it does without
    try:
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                WorldStep(world, decode, precision).eval(),
                step_inputs(world, batch),
                dynamo=True,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None  # with dynamo=True there is one
    return program.model_proto.SerializeToString()
