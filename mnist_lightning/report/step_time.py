"""What a step costs and what an image costs: the model of a run's time, and where two setups are equally fast."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000  # of the bootstrap; its generator has a fixed seed


@dataclass(frozen=True)
class Line:
    """seconds = fixed + per_step * steps, by least squares.

    All batch sizes train the same images, so that `fixed` is what the images cost and `per_step` what a step costs
    whatever it holds. Both have their standard error; `r2` is the share of the variance that the line explains.
    """

    fixed: float
    fixed_error: float
    per_step: float
    per_step_error: float
    r2: float
    residuals: tuple[float, ...]

    def at(self, steps: float) -> float:
        return self.fixed + self.per_step * steps


@dataclass(frozen=True)
class Overlap:
    """seconds = max(host * steps, fixed + per_step * steps): a host that runs ahead of its device costs nothing until
    it is the slower of the two. `preferred` says whether the points ask for it, by Akaike's criterion for few points."""

    host: float
    fixed: float
    per_step: float
    preferred: bool


def fit_line(steps: Sequence[float], seconds: Sequence[float]) -> Line | None:
    """Fits the line; None for fewer than three different numbers of steps."""
    if len(set(steps)) < 3:
        return None
    x, y = np.asarray(steps, float), np.asarray(seconds, float)
    slope, intercept = _least_squares(x, y)
    residuals = y - (intercept + slope * x)
    spread = ((x - x.mean()) ** 2).sum()
    variance = (residuals**2).sum() / (len(x) - 2)
    whole = ((y - y.mean()) ** 2).sum()
    return Line(
        fixed=float(intercept),
        fixed_error=float(np.sqrt(variance * (1 / len(x) + x.mean() ** 2 / spread))),
        per_step=float(slope),
        per_step_error=float(np.sqrt(variance / spread)),
        r2=float(1 - (residuals**2).sum() / whole) if whole else 1.0,
        residuals=tuple(residuals.tolist()),
    )


def fit_overlap(steps: Sequence[float], seconds: Sequence[float]) -> Overlap | None:
    """Fits the form with a host and a device; None for fewer than five points, or if no points are the host's.

    The host's are the points with the most steps, at least two; the device's are the others, at least two. Of all
    ways to part them the one with the least squares is taken.
    """
    order = np.argsort(steps)
    x, y = np.asarray(steps, float)[order], np.asarray(seconds, float)[order]
    if len(x) < 5:
        return None
    best: tuple[float, float, float, float] | None = None
    for device in range(2, len(x) - 1):
        slope, intercept = _least_squares(x[:device], y[:device])
        host = float((x[device:] * y[device:]).sum() / (x[device:] ** 2).sum())
        squares = float(((y - np.maximum(host * x, intercept + slope * x)) ** 2).sum())
        if host > slope >= 0 and (best is None or squares < best[0]):
            best = squares, host, float(intercept), float(slope)
    if best is None:
        return None
    slope, intercept = _least_squares(x, y)
    straight = float(((y - intercept - slope * x) ** 2).sum())
    # The variance is a parameter, too.
    preferred = _criterion(best[0], len(x), 4) < _criterion(straight, len(x), 3)
    return Overlap(host=best[1], fixed=best[2], per_step=best[3], preferred=preferred)


def crossover(one: Line, two: Line, images: int) -> float | None:
    """The batch size at which two lines cross: the one with less per step is faster below it; None if they do not.

    Args:
        one: Of a setup.
        two: Of another that trains as many images.
        images: Training images of the whole run, all epochs.
    """
    steps = _meeting(one.fixed, one.per_step, two.fixed, two.per_step)
    return images / steps if steps else None


def crossover_interval(
    one: Line, two: Line, steps: Sequence[float], images: int
) -> tuple[float, float] | None:
    """The middle 95 % of the crossovers of 10,000 fits to resampled residuals; None if more than 5 % do not cross."""
    random = np.random.default_rng(0)
    x = np.asarray(steps, float)
    found = []
    fits = [_resampled(line, x, random) for line in (one, two)]
    for (slope_1, fixed_1), (slope_2, fixed_2) in zip(*fits, strict=True):
        where = _meeting(fixed_1, slope_1, fixed_2, slope_2)
        if where:
            found.append(images / where)
    if len(found) < 0.95 * RESAMPLES:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    deviation = x - x.mean()
    slope = (deviation * (y - y.mean())).sum() / (deviation**2).sum()
    return float(slope), float(y.mean() - slope * x.mean())


def _criterion(squares: float, points: int, parameters: int) -> float:
    """Akaike's criterion, corrected for few points; infinite where there are too few."""
    if points - parameters - 1 <= 0:
        return float("inf")
    fit = points * np.log(max(squares, 1e-300) / points)
    return float(fit + 2 * parameters + 2 * parameters * (parameters + 1) / (points - parameters - 1))


def _meeting(fixed_1: float, slope_1: float, fixed_2: float, slope_2: float) -> float | None:
    steps = (fixed_1 - fixed_2) / (slope_2 - slope_1) if slope_1 != slope_2 else 0.0
    return steps if steps > 0 else None


def _resampled(line: Line, x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Slopes and intercepts of the fits to resampled residuals, [RESAMPLES, 2]."""
    residuals = np.asarray(line.residuals)
    # Residuals are smaller than errors, since the line was fitted to them.
    residuals = residuals * np.sqrt(len(x) / (len(x) - 2))
    drawn = random.choice(residuals, (RESAMPLES, len(x)))
    y = line.fixed + line.per_step * x + drawn
    deviation = x - x.mean()
    slopes = (y - y.mean(1, keepdims=True)) @ deviation / (deviation**2).sum()
    return np.stack([slopes, y.mean(1) - slopes * x.mean()], 1)
