"""The body: two hidden layers and a linear bypass, on a window that is freed of its scale; forward, backward, Adam."""

import numpy as np

WINDOW, HORIZON = 48, 12
QUANTILES = np.array([0.5, 0.9, 0.95], dtype=np.float32)
HIDDEN = 64
# A constant window has no spread: this part of its mean stands in, and this many cores where it is asleep.
MEAN_PART, FLOOR_CORES = 0.05, 1e-3


def normalise(window):
    """[batch, WINDOW] cores -> features [batch, WINDOW + 1] without unit, mean and scale [batch, 1] in cores."""
    mean = window.mean(axis=1, keepdims=True)
    spread = np.sqrt(((window - mean) ** 2).mean(axis=1, keepdims=True))
    scale = spread + MEAN_PART * mean + FLOOR_CORES
    features = np.concatenate([(window - mean) / scale, mean / scale / 20], axis=1)
    return features.astype(np.float32), mean, scale


def create(rng):
    inputs, outputs = WINDOW + 1, HORIZON * len(QUANTILES)

    def layer(rows, columns):
        return (rng.standard_normal((rows, columns)) * np.sqrt(2 / rows)).astype(np.float32)

    return {
        "w1": layer(inputs, HIDDEN), "b1": np.zeros(HIDDEN, np.float32),
        "w2": layer(HIDDEN, HIDDEN), "b2": np.zeros(HIDDEN, np.float32),
        "w3": layer(HIDDEN, outputs) * np.float32(0.1), "b3": np.zeros(outputs, np.float32),
        "bypass": np.zeros((inputs, outputs), np.float32),
    }


def softplus(x):
    return np.logaddexp(0, x).astype(np.float32)


def forward(p, x):
    """-> quantiles [batch, HORIZON, 3] of (value - mean) / scale, ascending; and what backward needs."""
    h1 = np.maximum(x @ p["w1"] + p["b1"], 0)
    h2 = np.maximum(h1 @ p["w2"] + p["b2"], 0)
    raw = (h2 @ p["w3"] + x @ p["bypass"] + p["b3"]).reshape(-1, HORIZON, len(QUANTILES))
    q50 = raw[..., 0]
    q90 = q50 + softplus(raw[..., 1])
    q95 = q90 + softplus(raw[..., 2])
    return np.stack([q50, q90, q95], axis=-1), (x, h1, h2, raw)


def pinball(forecast, actual):
    """Mean pinball loss per quantile [3]."""
    error = actual[..., None] - forecast
    return np.maximum(QUANTILES * error, (QUANTILES - 1) * error).mean(axis=tuple(range(error.ndim - 1)))


def gradients(p, x, actual):
    forecast, (x, h1, h2, raw) = forward(p, x)
    over = (actual[..., None] < forecast).astype(np.float32)
    d = (over - QUANTILES) / np.float32(forecast.size)
    slope = 1 / (1 + np.exp(-raw[..., 1:]))
    d90 = d[..., 1] + d[..., 2]
    d_raw = np.stack([d[..., 0] + d90, d90 * slope[..., 0], d[..., 2] * slope[..., 1]], axis=-1)
    d_raw = d_raw.reshape(len(x), -1).astype(np.float32)
    d2 = (d_raw @ p["w3"].T) * (h2 > 0)
    d1 = (d2 @ p["w2"].T) * (h1 > 0)
    return {
        "w3": h2.T @ d_raw, "b3": d_raw.sum(0), "bypass": x.T @ d_raw,
        "w2": h1.T @ d2, "b2": d2.sum(0), "w1": x.T @ d1, "b1": d1.sum(0),
    }


class Adam:
    def __init__(self, params):
        self.m = {k: np.zeros_like(v) for k, v in params.items()}
        self.v = {k: np.zeros_like(v) for k, v in params.items()}
        self.t = 0

    def step(self, params, grads, rate):
        self.t += 1
        for k, g in grads.items():
            self.m[k] = 0.9 * self.m[k] + np.float32(0.1) * g
            self.v[k] = 0.999 * self.v[k] + np.float32(0.001) * g * g
            m, v = self.m[k] / (1 - 0.9**self.t), self.v[k] / (1 - 0.999**self.t)
            params[k] -= (rate * m / (np.sqrt(v) + 1e-8)).astype(np.float32)
