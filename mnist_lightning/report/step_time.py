"""What a step costs and what an image costs: the model of a run's time, and where two setups are equally fast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

RESAMPLES = 10_000  # of the bootstrap; its generator has a fixed seed


@dataclass(frozen=True)
class Line:
    """seconds = fixed + per_step * steps, by least squares of the relative or of the absolute errors.

    All batch sizes train the same images, so that `fixed` is what the images cost and `per_step` what a step costs
    whatever it holds. Both have their standard error; `r2` is the share of the (weighted) variance that the line explains.
    `residuals` are relative or absolute as the errors are. `leverages` say how far each point decides its own residual, from
    0 to 1; they add up to 2.
    """

    fixed: float
    fixed_error: float
    per_step: float
    per_step_error: float
    r2: float
    residuals: tuple[float, ...]
    leverages: tuple[float, ...]

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


def fit_line(steps: Sequence[float], seconds: Sequence[float], relative: bool = True) -> Line | None:
    """Fits the line; None for fewer than three different numbers of steps.

    Times scatter in proportion to their size, so that the errors that count are relative ones. Absolute ones, the usual least
    squares, let the longest run decide.
    """
    if len(set(steps)) < 3:
        return None
    x, y = np.asarray(steps, float), np.asarray(seconds, float)
    weight = 1 / y if relative else np.ones_like(y)
    design, target = np.column_stack([np.ones_like(x), x]) * weight[:, None], y * weight
    inverse = np.linalg.inv(design.T @ design)
    fixed, slope = inverse @ design.T @ target
    residuals = target - design @ (fixed, slope)
    variance = residuals @ residuals / (len(x) - 2)
    errors = np.sqrt(variance * np.diag(inverse))
    mean = (weight**2 @ y) / (weight**2).sum()
    return Line(
        fixed=float(fixed),
        fixed_error=float(errors[0]),
        per_step=float(slope),
        per_step_error=float(errors[1]),
        r2=float(1 - residuals @ residuals / ((y - mean) ** 2 @ weight**2)),
        residuals=tuple(residuals.tolist()),
        leverages=tuple(np.einsum("ij,jk,ik->i", design, inverse, design).tolist()),
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
    found: list[tuple[float, float, float, float]] = []
    for device in range(2, len(x) - 1):
        slope, fixed = map(float, np.polyfit(x[:device], y[:device], 1, w=1 / y[:device]))
        host = float((x[device:] / y[device:]).sum() / ((x[device:] / y[device:]) ** 2).sum())
        squares = float(((1 - np.maximum(host * x, fixed + slope * x) / y) ** 2).sum())
        if host > slope >= 0:
            found.append((squares, host, fixed, slope))
    if not found:
        return None
    squares, host, fixed, slope = min(found)
    straight = float(((1 - np.polyval(np.polyfit(x, y, 1, w=1 / y), x) / y) ** 2).sum())
    # The variance is a parameter, too.
    preferred = _criterion(squares, len(x), 4) < _criterion(straight, len(x), 3)
    return Overlap(host, fixed, slope, preferred)


def crossover(one: Line, two: Line, images: int) -> float | None:
    """The batch size at which two lines cross: the one with less per step is faster below it; None if they do not.

    Args:
        one: Of a setup.
        two: Of another that trains as many images.
        images: Training images of the whole run, all epochs.
    """
    steps = _meeting(one.fixed, one.per_step, two.fixed, two.per_step)
    return images / steps if steps else None


def crossover_interval(one: Line, two: Line, steps: Sequence[float], images: int) -> tuple[float, float] | None:
    """The middle 95 % of the crossovers of 10,000 fits to resampled relative residuals; None if more than 5 % do not cross."""
    random = np.random.default_rng(0)
    fits = [_resampled(line, np.asarray(steps, float), random) for line in (one, two)]
    meetings = [
        _meeting(fixed_1, slope_1, fixed_2, slope_2)
        for (slope_1, fixed_1), (slope_2, fixed_2) in zip(*fits, strict=True)
    ]
    found = [images / steps for steps in meetings if steps]
    if len(found) < 0.95 * RESAMPLES:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def bracket(differences: Mapping[int, float]) -> list[tuple[int, int]]:
    """The neighbouring batch sizes between which two seconds minus one change their sign."""
    sizes = sorted(differences)
    return [(small, large) for small, large in pairwise(sizes) if (differences[small] > 0) != (differences[large] > 0)]


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
    """Slopes and intercepts of the fits to resampled relative residuals, [RESAMPLES, 2]."""
    # Residuals are smaller than errors, since the line was fitted to them.
    residuals = np.asarray(line.residuals) * np.sqrt(len(x) / (len(x) - 2))
    expected = line.fixed + line.per_step * x
    y = expected * (1 + random.choice(residuals, (RESAMPLES, len(x))))
    return np.polyfit(x, y.T, 1, w=1 / expected).T
