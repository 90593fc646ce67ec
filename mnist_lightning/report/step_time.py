"""What a step costs and what an image costs: two numbers that describe a run's time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import statsmodels.api as sm


class Line(NamedTuple):
    """seconds = fixed + per_step * steps, with the 95 % intervals of both, and the standard deviation of the relative errors.

    All batch sizes train the same images, so that `fixed` is what the images cost and `per_step` what a step costs whatever it
    holds.
    """

    fixed: float
    per_step: float
    fixed_ends: tuple[float, float]
    per_step_ends: tuple[float, float]
    scatter: float


def fit_line(steps: Sequence[float], seconds: Sequence[float]) -> Line:
    """Fits the line to three numbers of steps or more. Times scatter in proportion to their size, so that relative errors count."""
    y = np.asarray(seconds, float)
    fit = sm.WLS(y, sm.add_constant(np.asarray(steps, float)), weights=y**-2.0).fit()
    (fixed, slope), ends = fit.params, [(float(low), float(high)) for low, high in fit.conf_int()]
    return Line(float(fixed), float(slope), ends[0], ends[1], float(fit.scale**0.5))
