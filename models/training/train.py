"""Trains models/fast-quantile: python train.py [--out ../fast-quantile]. One thread: the same bytes again on the same CPU."""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
# Else ONNX Runtime tells its makers of each model it opens.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime

import graph
from accuracy import compare
from network import HIDDEN, HORIZON, QUANTILES, WINDOW, Adam, create, gradients, normalise
from workloads import families, series

SEED, VERSION = 20261124, "1.0.0"
SERIES, LENGTH, STEPS, BATCH = 4000, 400, 12_000, 512
HELD_OUT_SEED, HELD_OUT_SERIES, HELD_OUT_LENGTH = 7, 400, 240


def train():
    rng = np.random.default_rng(SEED)
    data = series(rng, SERIES, LENGTH)
    params = create(rng)
    adam = Adam(params)
    offsets = np.arange(WINDOW + HORIZON)
    for step in range(STEPS):
        rows = rng.integers(SERIES, size=BATCH)
        starts = rng.integers(LENGTH - WINDOW - HORIZON + 1, size=BATCH)
        cut = data[rows[:, None], starts[:, None] + offsets]
        x, mean, scale = normalise(cut[:, :WINDOW])
        actual = (cut[:, WINDOW:] - mean) / scale
        rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * step / STEPS)) + 1e-5
        adam.step(params, gradients(params, x, actual), rate)
        if step % 2000 == 0:
            print(f"step {step} of {STEPS}", flush=True)
    return params


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "fast-quantile")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    model = graph.build(train()).SerializeToString(deterministic=True)
    (out / "model.onnx").write_bytes(model)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    held_out = series(np.random.default_rng(HELD_OUT_SEED), HELD_OUT_SERIES, HELD_OUT_LENGTH)
    accuracy = compare(session, held_out)
    manifest = {
        "name": "fast-quantile",
        "version": VERSION,
        "description": f"Quantiles of demand for the next {HORIZON} s: two layers of {HIDDEN} and a bypass; conformal offsets as state.",
        "sha256": hashlib.sha256(model).hexdigest(),
        "opset": graph.OPSET,
        "stepSeconds": 1,
        "windowSteps": WINDOW,
        "horizonSteps": HORIZON,
        "quantiles": [0.5, 0.9, 0.95],
        "inputs": [
            {"name": "window", "role": "window", "dtype": "float32", "shape": ["batch", WINDOW], "unit": "cores"},
            {"name": "state", "role": "state", "dtype": "float32", "shape": ["batch", graph.STATE], "unit": "1"},
        ],
        "outputs": [
            {"name": "forecast", "role": "forecast", "dtype": "float32",
             "shape": ["batch", HORIZON, len(QUANTILES)], "unit": "cores"},
            {"name": "next_state", "role": "state", "dtype": "float32", "shape": ["batch", graph.STATE], "unit": "1"},
        ],
        "training": {
            "command": "python models/training/train.py",
            "seed": SEED,
            "data": f"{SERIES} synthetic series of {LENGTH} s in {len(families)} families: "
                    + ", ".join(family.__name__ for family in families),
        },
        "accuracy": accuracy,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(json.dumps(accuracy, indent=2))


if __name__ == "__main__":
    main()
