"""Made-up rows of the prediction log, with the traits that make drift hard: cameras, slow traffic, noise that lasts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

START = datetime(2026, 3, 1, tzinfo=UTC)
CLASSES = ("car", "truck", "bus", "bicycle")
EMBEDDER = "sha256:aaaa"


def lasting(rng: np.random.Generator, seconds: np.ndarray, tau_s: float) -> np.ndarray:
    """Standard normal noise with correlation exp(-dt/tau_s) between neighbours."""
    values = np.empty(len(seconds))
    values[0] = rng.normal()
    for i in range(1, len(seconds)):
        rho = np.exp(-(seconds[i] - seconds[i - 1]) / tau_s)
        values[i] = rho * values[i - 1] + np.sqrt(1 - rho**2) * rng.normal()
    return values


def rows(
    rng: np.random.Generator,
    seconds: np.ndarray,
    cameras: tuple[str, ...] = ("a", "b", "c"),
    light: str = "day",
    shift: float = 0.0,
    traffic: float = 1.0,
    version: int = 1,
    purpose: str = "live",
    tau_s: float = 12.0,
    missed: float = 0.0,
) -> pd.DataFrame:
    """Rows of every camera at each second. shift: change of the picture, in about its own standard deviations;
    traffic: factor on the number of objects; missed: share of the objects that the detector no longer finds."""
    found = []
    for number, camera in enumerate(cameras):
        level = 0.5 + 0.05 * number if light == "day" else 0.15 + 0.02 * number
        base = np.random.default_rng(number).normal(size=16)
        slow, picture = lasting(rng, seconds, tau_s), lasting(rng, seconds, 3 * tau_s)
        direction = np.random.default_rng(99).normal(size=16)
        for i, second in enumerate(seconds):
            expected = np.array([4.0, 1.2, 0.4, 0.6]) * np.exp(0.4 * slow[i]) * traffic * (1 - missed)
            counts = dict(zip(CLASSES, rng.poisson(expected).tolist(), strict=True))
            n = sum(counts.values())
            found.append(
                {
                    "at": START + timedelta(seconds=float(second)),
                    "camera_id": camera,
                    "version": version,
                    "purpose": purpose,
                    "light": light,
                    "n": n,
                    "counts": counts,
                    "mean_confidence": 0.7 - 0.15 * missed + 0.05 * rng.normal() if n else np.nan,
                    "box_areas": list(rng.uniform(0.05, 0.2, n)),
                    "brightness": level + 0.01 * picture[i] + 0.02 * shift,
                    "contrast": 0.2 + 0.005 * picture[i] - 0.01 * shift,
                    "sharpness": 6.5 + 0.1 * rng.normal() - 0.3 * shift,
                    "noise": 3.0 + 0.1 * rng.normal() + 0.5 * shift,
                    "overexposed": abs(0.01 * rng.normal()),
                    "underexposed": 0.0,
                    "embedding": list(
                        base + 0.2 * rng.normal(size=16) + 0.15 * slow[i] * direction + shift * direction
                    ),
                    "embedder": EMBEDDER,
                }
            )
    return pd.DataFrame(found)


def held_out(
    rng: np.random.Generator, blocks: int = 4, per_block: int = 8, every_s: float = 2.0, **how: object
) -> pd.DataFrame:
    """Reference rows: held-out blocks of time, scattered over an hour of footage."""
    starts = np.sort(rng.choice(60, blocks, replace=False)) * 60.0
    seconds = np.concatenate([start + np.arange(per_block) * every_s for start in starts])
    return rows(rng, seconds, purpose="reference", **how)  # type: ignore[arg-type]


def live(rng: np.random.Generator, frames: int = 30, every_s: float = 2.0, **how: object) -> pd.DataFrame:
    """A window of live rows, an hour later."""
    return rows(rng, 7200.0 + np.arange(frames) * every_s, **how)  # type: ignore[arg-type]
