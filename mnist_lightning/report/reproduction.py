"""Is it reproduced? Our accuracy and loss beside the paper's, cell by cell."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mnist_lightning import paper
from mnist_lightning.report.evidence import Evidence
from mnist_lightning.report.evidence import cell as cell_of
from mnist_lightning.report.seeds import METRICS, Estimate


class Agreement(NamedTuple):
    """Our cells of one column beside one of the paper's: ours over theirs by metric and batch size."""

    column: str
    setup: str
    ratios: dict[tuple[str, int], Estimate]

    @property
    def apart(self) -> list[tuple[str, int]]:
        return [place for place, each in self.ratios.items() if each.judge() != 0]

    @property
    def agreeing(self) -> int:
        """The number of cells that are not apart."""
        return len(self.ratios) - len(self.apart)


def agreements(ours: Iterable[Evidence], theirs: Evidence) -> list[Agreement]:
    """Accuracy and loss of each of our columns against each of the paper's. A time is of another machine."""
    found = []
    for each in ours:
        for setup, column in each.columns.items():
            for other in paper.SETUPS:
                ratios = {}
                for metric in METRICS[1:]:
                    known = each.noise[metric]
                    for size in paper.BATCH_SIZES:
                        cell = cell_of(each, metric, setup, size)
                        deviation, freedom = known.at(size)
                        if cell is not None and freedom:
                            log = cell.log - theirs.tables[metric][other][size]
                            ratios[metric, size] = Estimate(float(log), math.hypot(cell.error, deviation), freedom)
                found.append(Agreement(column, other, ratios))
    return [each for each in found if each.ratios]


def alone(found: Sequence[Agreement]) -> list[tuple[str, str, int]]:
    """The paper's cells that agree with none of our columns: setup, metric and batch size."""
    places = dict.fromkeys((each.setup, *place) for each in found for place in each.ratios)
    return [
        (setup, metric, size)
        for setup, metric, size in places
        if all((metric, size) in each.apart for each in found if each.setup == setup and (metric, size) in each.ratios)
    ]
