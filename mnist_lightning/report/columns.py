"""The columns of the report, one tidy table of all runs, and which runs are left out of its times."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.measure.disturbance import disturbances
from mnist_lightning.report.runs import OURS, Run

IDENTITY = ("processor", "family", "model", "stepping", "cores")  # of a machine, beside its calibrated rate
APART = 1.10  # rates further apart than this are those of two machines, whatever they are called
OF_A_SETUP = ("machine.threads", "machine.gpu")  # two setups on one machine may differ in these
# What trained a run, as its machine records it: its name in a sentence, and what is shown of it.
TRAINED_BY = {"code": ("other code", "commit"), "torch": ("another PyTorch", "torch")}
SHORT = {"32-true": "fp32", "bf16-mixed": "bf16", "64-true": "fp64", "16-mixed": "fp16"}
TIMES = ("seconds/", "median/", "share", "first_epoch")  # metrics that other work on the machine changes
# What Lightning makes of a setting that is not given.
UNSET = {"trainer.limit_train_batches": 1.0, "trainer.limit_val_batches": 1.0, "trainer.deterministic": False}
PLACE = ["column", "setup", "network", "precision", "batch_size", "seed", "repeat", "metric"]


def tidy(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run and metric, in the paper's order of setups.

    `column` is as `labelled` gives it, and `network` the part of it that tells the network. `papers` says whether the
    network is the paper's, `timed` whether the run is not left out of times. `repeat` counts equal runs of one seed.
    """
    out, seen, rows = left_out(runs), Counter[tuple[object, ...]](), []
    for label, network, run in labelled(runs):
        summary = run.summary
        cell = (label, summary["batch_size"], summary["seed"])
        rows += [
            {
                "column": label,
                "setup": summary["setup"],
                "network": network,
                "precision": summary["machine"]["precision"],
                "batch_size": summary["batch_size"],
                "seed": summary["seed"],
                "repeat": seen[cell],
                "metric": metric,
                "value": float(value),
                "papers": is_papers(run),
                "timed": run not in out,
                "commit": summary["machine"].get("commit", ""),
            }
            for metric, value in run.measured().items()
        ]
        seen[cell] += 1
    table = pd.DataFrame(rows, columns=[*PLACE, "value", "papers", "timed", "commit"])
    table = table.astype({"papers": bool, "timed": bool})
    return table.sort_values(PLACE[1:], key=_order, kind="stable").sort_values(
        ["setup", "column"], key=_order, kind="stable"
    )


def values(table: pd.DataFrame, metric: str) -> pd.Series:
    """A metric by column, batch size and seed.

    Repeats of a seed give the same numbers, of which the newest counts, and other times, of which the median counts.
    """
    rows, place = table[table.metric == metric], ["column", "batch_size", "seed"]
    if metric.startswith(TIMES):
        return rows[rows.timed].groupby(place, sort=False).value.median()
    return rows.sort_values("repeat", kind="stable").groupby(place, sort=False).value.last()


def of_columns(values: pd.Series, columns: Collection[str]) -> pd.Series:
    """The part of such a metric that is in some of the columns."""
    return values[values.index.get_level_values("column").isin(columns)]


def of_the_paper(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of the paper's network; all of them if there is none."""
    return table[table.papers] if table.papers.any() else table


def is_papers(run: Run) -> bool:
    """Whether the network is the paper's."""
    model = {name: _plain(run.settings.get(f"model.{name}")) for name in paper.ARCHITECTURE}
    return run.network == OURS and model == {name: _plain(value) for name, value in paper.ARCHITECTURE.items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def left_out(runs: Iterable[Run]) -> dict[Run, str]:
    """The runs whose times are not used, with the reason. Their accuracy and loss are."""
    runs = list(runs)
    number = machines(runs)
    usual = {key: _usual(runs, number, key) for key in TRAINED_BY}
    found = {}
    for run in runs:
        reasons = ["it was interrupted and went on"] * bool(run.summary.get("resumed"))
        reasons += disturbances(run.summary)
        machine = run.summary["machine"]
        for key, (what, shown) in TRAINED_BY.items():
            if machine.get(key) not in (None, usual[key].get(number[run])):
                reasons.append(f"{what} trained it than most runs ({shown} {machine.get(shown) or machine[key]})")
        if reasons:
            found[run] = " and ".join(reasons)
    return found


def _usual(runs: Iterable[Run], number: Mapping[Run, int], key: str) -> dict[int, str]:
    """What most runs on a machine have, by the machine's number: times are compared on one machine only."""
    found = defaultdict[int, Counter[str]](Counter)
    for run in runs:
        if (value := run.summary["machine"].get(key)) is not None:
            found[number[run]][value] += 1
    return {machine: values.most_common(1)[0][0] for machine, values in found.items()}


def machines(runs: Iterable[Run]) -> dict[Run, int]:
    """The number of the machine that each run was on, from 1.

    Machines differ in their processor, or in the calibrated rate of all its cores, or in that of one of their GPUs.
    """
    runs = list(runs)
    host = _told_apart(runs, IDENTITY, lambda run: gflops(run, "host"))
    # A setup of a processor is on the same machine as that of its GPU.
    gpu = _told_apart(
        [run for run in runs if run.summary["machine"].get("gpu")],
        (*IDENTITY, "gpu"),
        lambda run: gflops(run, "fp32") / setup_order(run.summary["setup"])[1],
    )
    numbers: dict[tuple[object, ...], int] = {}
    return {
        run: numbers.setdefault((*host[run][0], host[run][1], gpu[run][1] if run in gpu else 0), len(numbers) + 1)
        for run in runs
    }


def _told_apart(
    runs: Iterable[Run], name: Sequence[str], rate: Callable[[Run], float]
) -> dict[Run, tuple[tuple[object, ...], int]]:
    """The name of the machine of each run, and a number that tells machines of one name apart.

    The rates of one name are sorted; where two neighbours are more than 10 % apart, another machine begins.
    """
    found = {}
    key = {run: tuple(run.summary["machine"].get(part) for part in name) for run in runs}
    for same in dict.fromkeys(key.values()):
        number, last = 0, math.inf
        for run in sorted((run for run in key if key[run] == same), key=rate):
            number += rate(run) > APART * last
            last = rate(run) or math.inf  # one that was not calibrated is no other machine
            found[run] = same, number
    return found


def gflops(run: Run, kind: str) -> float:
    """A calibrated rate, the better of before and after the run; 0 if it was not calibrated."""
    rates = run.summary.get("calibration", {})
    return max((rates.get(moment, {}).get(f"{kind}_gflops", 0.0) for moment in ("before", "after")), default=0.0)


def labelled(runs: Sequence[Run]) -> list[tuple[str, str, Run]]:
    """The runs with the report's column that each is in: its setup, and those of its settings that differ among them. The
    second text is the part that tells the network; the paper's needs no words."""
    number = machines(runs)
    settings = {run: {**run.settings, "machine": f"machine {number[run]}"} for run in runs}
    differing = [
        name for name in sorted({name for each in settings.values() for name in each}) if _differs(name, settings)
    ]
    found = []
    for run in runs:
        own = [name for name in differing if not (is_papers(run) and _of_architecture(name))]
        parts = {name: part(name, _value(name, settings[run])) for name in own if name in settings[run]}
        network = [text for name, text in parts.items() if text and of_network(name)]
        other = [text for name, text in parts.items() if text and not of_network(name)]
        found.append((", ".join([run.summary["setup"], *other, *network]), ", ".join(network), run))
    return found


def setup_order(setup: str) -> tuple[bool, int]:
    """Sorts as the paper's columns: the processor first, then one device before two."""
    devices, _, kind = setup.partition("x")
    return kind != "cpu", int(devices)


def _order(values: pd.Series) -> pd.Series:
    return values.map(setup_order) if values.name == "setup" else values


def of_network(name: str) -> bool:
    """Whether a setting is one of the network."""
    return name == "network" or name.startswith("model.")


def _of_architecture(name: str) -> bool:
    return name == "network" or name.removeprefix("model.") in paper.ARCHITECTURE


def _differs(name: str, settings: Mapping[Run, Mapping[str, Any]]) -> bool:
    found = defaultdict(set)
    for run, each in settings.items():
        # Values that follow from the setup or from the network are compared only within one setup or network.
        of = run.summary["setup"] if name in OF_A_SETUP else run.network if name.startswith("model.") else None
        if name in each:  # the config of a run from Python has only what a Trainer can be asked for
            found[of].add(json.dumps(_value(name, each)))
    return any(len(each) > 1 for each in found.values())


def _value(name: str, settings: Mapping[str, Any]) -> Any:
    """A setting of a run, with what Lightning makes of one that is not given."""
    return UNSET.get(name) if settings[name] is None else settings[name]


def part(name: str, value: Any) -> str:
    """A setting in the name of a column; empty if it says nothing."""
    if value is None and (name in OF_A_SETUP or name.startswith("model.")):
        return ""
    short = {"trainer.precision": SHORT.get(str(value)), "network": value, "machine": value}.get(name)
    return short or f"{name.rpartition('.')[2]} {json.dumps(value)}"
