"""Measures the exported model, as it will run, step by step with its state, against simple forecasts on held-out series."""

import numpy as np

from graph import STATE
from network import HORIZON, QUANTILES, WINDOW, pinball

SES_ALPHA = 0.3


def naive(window):
    """The last value, for every quantile."""
    return np.repeat(window[:, -1, None], len(QUANTILES), axis=1)


def ses(window):
    """Simple exponential smoothing, with the quantiles of its own one-step errors in the window."""
    level, errors = window[:, 0].copy(), []
    for i in range(1, window.shape[1]):
        error = window[:, i] - level
        errors.append(error)
        level = level + SES_ALPHA * error
    return np.maximum(0, level[:, None] + np.quantile(np.stack(errors, axis=1), QUANTILES, axis=1).T)


def window_quantiles(window):
    """The quantiles of the window."""
    return np.quantile(window, QUANTILES, axis=1).T


def compare(session, data):
    """Pinball loss, each series in units of its own mean; per forecast: over all quantiles, and at each."""
    scale = data.mean(axis=1)[:, None] + 1e-3
    losses = {name: [] for name in ("model", "naive", "ses", "windowQuantiles")}
    state = np.zeros((len(data), STATE), np.float32)
    covered = []
    for end in range(WINDOW, data.shape[1] - HORIZON + 1):
        window, actual = data[:, end - WINDOW : end], data[:, end : end + HORIZON]
        forecast, state = session.run(["forecast", "next_state"], {"window": window, "state": state})
        # The offsets need some steps: measured is the second half, where all have had them.
        if end < (data.shape[1] + WINDOW) // 2:
            continue
        covered.append((actual[..., None] <= forecast).mean(axis=(0, 1)))
        losses["model"].append(pinball(forecast / scale[..., None], actual / scale))
        for name, simple in (("naive", naive), ("ses", ses), ("windowQuantiles", window_quantiles)):
            flat = np.repeat(simple(window)[:, None, :], HORIZON, axis=1)
            losses[name].append(pinball(flat / scale[..., None], actual / scale))
    result = {}
    for name, values in losses.items():
        by_quantile = np.mean(values, axis=0)
        result[name] = {"pinball": round(float(by_quantile.mean()), 5),
                        **{f"q{round(float(q) * 100)}": round(float(v), 5) for q, v in zip(QUANTILES, by_quantile)}}
    return {
        "data": f"{len(data)} held-out synthetic series; pinball loss relative to each series' mean, mean over {HORIZON} s",
        **result,
        "coverage": {f"q{round(float(q) * 100)}": round(float(v), 4) for q, v in zip(QUANTILES, np.mean(covered, axis=0))},
    }
