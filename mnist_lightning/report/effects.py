"""What each setting of the network does by itself: its values compared in pairs of runs that differ in nothing else."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mnist_lightning.report.columns import of_columns, of_network, part, values
from mnist_lightning.report.evidence import Noise
from mnist_lightning.report.networks import Grid
from mnist_lightning.report.seeds import METRICS, Estimate, contrasts, logs


@dataclass(frozen=True)
class Effect:
    """One value of a setting over the value of the network that all are compared with.

    Args:
        value: The setting with this value, and with the other one.
        pairs: How many pairs of runs have the same seed and the same other settings.
        ratios: By metric, the geometric mean over the pairs. Their deviation is pooled over the values of the setting.
    """

    value: str
    pairs: int
    ratios: dict[str, Estimate]


def effects(settings: Mapping[str, Mapping[str, Any]], table: pd.DataFrame, grid: Grid, noise: Noise) -> list[Effect]:
    """Every value of each setting of the networks of a grid, by the settings of each column. The list is empty if only one
    setting differs, since the grid then tells it."""
    columns = [network.column for network in grid.networks]
    shared = set.intersection(*(set(settings[column]) for column in columns))
    names = sorted(name for name in shared if of_network(name))
    given = {column: {name: json.dumps(settings[column][name]) for name in names} for column in columns}
    differing = [name for name in names if len({each[name] for each in given.values()}) > 1]
    if len(differing) < 2:
        return []
    reference = next(network.column for network in grid.networks if network.reference)
    measured = {metric: of_columns(logs(values(table, metric)), columns) for metric in METRICS}
    return [
        each for name in differing for each in _of(name, differing, given, reference, measured, noise, grid.batch_size)
    ]


def _of(
    name: str,
    differing: Sequence[str],
    given: Mapping[str, Mapping[str, str]],
    reference: str,
    measured: Mapping[str, pd.Series],
    noise: Noise,
    size: int,
) -> Iterator[Effect]:
    """The effects of one setting. Runs of one seed with the same other settings stand where `contrasts` has a seed."""
    before, pairs = given[reference][name], dict[str, int]()
    found: dict[str, dict[str, Estimate]] = {}
    for metric, all_sizes in measured.items():
        series = all_sizes[all_sizes.index.get_level_values("batch_size") == size]
        places = [
            (given[column][name], size, (seed, *(given[column][other] for other in differing if other != name)))
            for column, _, seed in series.index
        ]
        rows = series.set_axis(pd.MultiIndex.from_tuples(places, names=["column", "batch_size", "seed"]))
        found[metric] = contrasts(rows, noise[metric], before, size)
        of_value = {value: {block for level, _, block in places if level == value} for value, _, _ in places}
        for value in found[metric]:
            pairs[value] = max(pairs.get(value, 0), len(of_value[value] & of_value[before]))
    for value in sorted(pairs, key=lambda value: (len(value), value)):  # texts of numbers, so that 64 is before 128
        told = f"{part(name, json.loads(value))} instead of {part(name, json.loads(before))}"
        yield Effect(told, pairs[value], {metric: each[value] for metric, each in found.items() if value in each})
