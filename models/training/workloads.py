"""Synthetic CPU demand in cores, one value a second: what instances of a busy host look like, family by family.

Seeded: the same generator state gives the same series. Values are >= 0; scales reach from 0.02 to 30 cores.
"""

import numpy as np


def steady(rng, n):
    return 1 + rng.uniform(0.01, 0.15) * rng.standard_normal(n)


def autoregressive(rng, n):
    phi, spread = rng.uniform(0.5, 0.98), rng.uniform(0.05, 0.3)
    noise = rng.standard_normal(n) * spread * np.sqrt(1 - phi * phi)
    out = np.empty(n)
    value = 0.0
    for i in range(n):
        value = phi * value + noise[i]
        out[i] = value
    return 1 + out


def seasonal(rng, n):
    period, depth = rng.uniform(6, 90), rng.uniform(0.2, 1.0)
    phase = 2 * np.pi * (np.arange(n) / period + rng.uniform())
    return 1 + depth * np.sin(phase) + 0.05 * rng.standard_normal(n)


def on_off(rng, n):
    """A batch job: busy for a while, asleep for a while."""
    busy, idle = rng.uniform(3, 60), rng.uniform(3, 60)
    out, level, i = np.empty(n), rng.uniform() < 0.5, 0
    while i < n:
        length = 1 + int(rng.exponential(busy if level else idle))
        out[i : i + length] = 1.0 if level else 0.02
        level, i = not level, i + length
    return out * (1 + 0.05 * rng.standard_normal(n))


def periodic_job(rng, n):
    """A timer: the same burst every so many seconds."""
    period = int(rng.integers(5, 40))
    width = int(rng.integers(1, max(2, period // 2)))
    base = rng.uniform(0.05, 0.4)
    busy = (np.arange(n) + rng.integers(period)) % period < width
    return np.where(busy, 1.0, base) * (1 + 0.05 * rng.standard_normal(n))


def spikes(rng, n):
    out = 0.2 + 0.03 * rng.standard_normal(n)
    hits = rng.uniform(size=n) < rng.uniform(0.01, 0.15)
    return out + hits * rng.pareto(2.5, size=n).clip(max=10)


def steps(rng, n):
    """A service whose traffic is moved on and off it."""
    changes = rng.uniform(size=n) < rng.uniform(0.005, 0.04)
    levels = rng.uniform(0.1, 2.0, size=n)
    out, level = np.empty(n), levels[0]
    for i in range(n):
        level = levels[i] if changes[i] else level
        out[i] = level
    return out * (1 + rng.uniform(0.01, 0.1) * rng.standard_normal(n))


def ramp(rng, n):
    period = rng.uniform(40, 400)
    t = (np.arange(n) / period + rng.uniform()) % 1.0
    return 0.1 + np.where(rng.uniform() < 0.5, t, 1 - np.abs(2 * t - 1)) + 0.04 * rng.standard_normal(n)


def wandering(rng, n):
    walk = np.cumsum(rng.standard_normal(n)) * rng.uniform(0.01, 0.08)
    return np.abs(1 + walk)


def requests(rng, n):
    """Poisson arrivals of log-normal work."""
    rate, spread = rng.uniform(1, 40), rng.uniform(0.3, 1.2)
    counts = rng.poisson(rate, size=n)
    work = rng.lognormal(0, spread, size=n)
    return counts * work / rate


families = [steady, autoregressive, seasonal, on_off, periodic_job, spikes, steps, ramp, wandering, requests]


def series(rng, count, length):
    """[count, length] float32; family i % len(families), a third of them capped as a fixed number of threads caps them."""
    out = np.empty((count, length), dtype=np.float32)
    for i in range(count):
        values = families[i % len(families)](rng, length)
        if rng.uniform() < 1 / 3:
            values = np.minimum(values, np.quantile(values, rng.uniform(0.7, 1.0)))
        scale = 10 ** rng.uniform(np.log10(0.02), np.log10(30))
        out[i] = np.maximum(values, 0) * scale
    return out
