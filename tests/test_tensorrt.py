"""Does TensorRT take every step? Parsed and built for real with tensorrt_rtx, which needs no GPU for that."""

import pytest
from tiny_world import make_world

from wm_gym.engine.base import step_inputs
from wm_gym.engine.onnx import export_step, step_names
from wm_gym.engine.shared import load_world
from wm_gym.engine.tensorrt import build_engine, parse_network

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install -e '.[test-trt]'")
BATCH = 2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["Reach-v0", "Push-v0", "Drawer-v0", "dit"])
def test_a_step_is_parsed_and_built(name, precision):
    world = make_world(dynamics="dit") if name == "dit" else load_world(name)
    graph = export_step(world, BATCH, precision=precision)
    _, network, *_parser = parse_network(graph)
    names = (
        [network.get_input(i).name for i in range(network.num_inputs)],
        [network.get_output(i).name for i in range(network.num_outputs)],
    )
    assert names == step_names(world, decode=True)
    shapes = [tuple(network.get_input(i).shape) for i in range(network.num_inputs)]
    assert shapes == [tuple(x.shape) for x in step_inputs(world, BATCH)]
    kinds = [network.get_layer(i).type.name for i in range(network.num_layers)]
    rings = sum(key.startswith(("keys_", "values_")) for key in world.dynamics.memory_keys)
    assert kinds.count("KV_CACHE_UPDATE") == rings and (rings > 0) is (name == "dit")
    assert len(build_engine(graph)) > 100_000


def test_what_is_no_step_is_refused_in_the_parsers_words():
    with pytest.raises(ValueError, match="cannot parse"):
        parse_network(b"no model")
