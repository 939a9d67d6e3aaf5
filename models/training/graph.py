"""The network and its per-series state, node by node, as an ONNX graph: (window, state) -> (forecast, next_state)."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from network import FLOOR_CORES, HORIZON, MEAN_PART, QUANTILES, WINDOW

# Columns of the state: 1 once there was a step before; that step's q90 and q95 for this one, in cores; the offsets of the
# upper quantiles, in window scales. Zeros are the state of a new series.
STATE = 5
# Conformal quantile tracking (Angelopoulos et al. 2023, "Conformal PID control", eq. 4): the step of each offset.
STEP = 0.02
OFFSET_RANGE = (-0.5, 3.0)
OPSET, IR = 17, 8


def build(params):
    nodes, constants = [], []

    def constant(name, value, dtype=np.float32):
        constants.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def column(source, at, name):
        return node("Slice", [source, constant(f"{name}.from", [at], np.int64),
                              constant(f"{name}.to", [at + 1], np.int64), "axis1"], name)

    constant("axis1", [1], np.int64)
    for name, value in params.items():
        constants.append(numpy_helper.from_array(value, name))

    mean = node("ReduceMean", ["window"], "mean", axes=[1], keepdims=1)
    centred = node("Sub", ["window", mean], "centred")
    square = node("Mul", [centred, centred], "square")
    variance = node("ReduceMean", [square], "variance", axes=[1], keepdims=1)
    spread = node("Sqrt", [variance], "spread")
    part = node("Mul", [mean, constant("mean_part", MEAN_PART)], "part")
    sum_ = node("Add", [spread, part], "spread_and_part")
    scale = node("Add", [sum_, constant("floor_cores", FLOOR_CORES)], "scale")
    shape = node("Div", [centred, scale], "shape")
    ratio = node("Div", [mean, scale], "ratio")
    level = node("Div", [ratio, constant("twenty", 20.0)], "level")
    x = node("Concat", [shape, level], "features", axis=1)

    h1 = node("Relu", [node("Gemm", [x, "w1", "b1"], "a1")], "h1")
    h2 = node("Relu", [node("Gemm", [h1, "w2", "b2"], "a2")], "h2")
    deep = node("Gemm", [h2, "w3", "b3"], "deep")
    flat = node("Add", [deep, node("MatMul", [x, "bypass"], "linear")], "flat")
    raw = node("Reshape", [flat, constant("steps_by_quantiles", [-1, HORIZON, 3], np.int64)], "raw")
    constant("axis2", [2], np.int64)

    def quantile(at, name):
        return node("Slice", [raw, constant(f"{name}.from", [at], np.int64),
                              constant(f"{name}.to", [at + 1], np.int64), "axis2"], name)

    q50 = quantile(0, "n50")
    q90 = node("Add", [q50, node("Softplus", [quantile(1, "r90")], "above50")], "n90")
    q95 = node("Add", [q90, node("Softplus", [quantile(2, "r95")], "above90")], "n95")

    # What the last step turned out to be, against what was said of it.
    last = column("window", WINDOW - 1, "last")
    seen = column("state", 0, "seen")
    offsets = []
    for i, (at, q) in enumerate(zip(("90", "95"), QUANTILES[1:])):
        missed = node("Cast", [node("Greater", [last, column("state", 1 + i, f"said{at}")], f"above_said{at}")],
                      f"missed{at}", to=TensorProto.FLOAT)
        wrong = node("Sub", [missed, constant(f"rate{at}", 1 - q)], f"wrong{at}")
        step = node("Mul", [wrong, constant(f"step{at}", STEP)], f"stepped{at}")
        taken = node("Mul", [step, seen], f"taken{at}")
        moved = node("Add", [column("state", 3 + i, f"offset{at}"), taken], f"moved{at}")
        offsets.append(node("Clip", [moved, constant(f"least{at}", OFFSET_RANGE[0]),
                                     constant(f"most{at}", OFFSET_RANGE[1])], f"next_offset{at}"))

    wide = [node("Unsqueeze", [name, "axis2"], f"{name}.wide") for name in (mean, scale, *offsets)]
    mean3, scale3, wide90, wide95 = wide
    q90 = node("Max", [q50, node("Add", [q90, wide90], "calibrated90")], "m90")
    q95 = node("Max", [q90, node("Add", [q95, wide95], "calibrated95")], "m95")
    normal = node("Concat", [q50, q90, q95], "normal", axis=2)
    cores = node("Add", [node("Mul", [normal, scale3], "scaled"), mean3], "cores")
    node("Max", [cores, constant("zero", 0.0)], "forecast")

    first = node("Slice", ["forecast", constant("first.from", [0, 1], np.int64),
                           constant("first.to", [1, 3], np.int64), constant("first.axes", [1, 2], np.int64)], "first")
    said = node("Squeeze", [first, "axis1"], "said")
    flag = node("Add", [node("Mul", [seen, constant("none", 0.0)], "unseen"), constant("one", 1.0)], "flag")
    node("Concat", [flag, said, *offsets], "next_state", axis=1)

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "fast-quantile",
        [value("window", TensorProto.FLOAT, ["batch", WINDOW]), value("state", TensorProto.FLOAT, ["batch", STATE])],
        [value("forecast", TensorProto.FLOAT, ["batch", HORIZON, len(QUANTILES)]),
         value("next_state", TensorProto.FLOAT, ["batch", STATE])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR,
                              producer_name="sculptor-training")
    onnx.checker.check_model(model, full_check=True)
    return model
