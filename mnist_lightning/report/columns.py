"""The columns of the report: which runs belong together, what they are called, and which can stand beside the paper's."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any, NamedTuple

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.measure.disturbance import busy_others
from mnist_lightning.report.runs import OURS, Run

IDENTITY = ("processor", "family", "model", "stepping", "cores")  # of a machine, whose rate may differ from day to day
OF_A_SETUP = ("machine.threads", "machine.gpu", "convolutions")  # two setups on one machine may differ in these
TRAINED_BY = {"code": "other code", "torch": "other PyTorch"}  # times of another one are no measurement of this one
SHORT = {"32-true": "fp32", "bf16-mixed": "bf16", "64-true": "fp64", "16-mixed": "fp16"}
IN_THE_NAME = ("program", "trainer.precision")  # all other settings are told in the legend
TIMES = ("seconds/", "median/")  # metrics that other work on the machine changes
# What Lightning makes of a setting that is not given.
UNSET = {"trainer.limit_train_batches": 1.0, "trainer.limit_val_batches": 1.0, "trainer.deterministic": False}
# The paper's experiment. A run that differs in one of these is not compared with the paper.
PAPERS: dict[str, Any] = {
    **{f"model.{name}": value for name, value in paper.ARCHITECTURE.items()},
    "model.learning_rate": 1.0,
    "model.rho": 0.95,
    "model.eps": 1e-7,
    "network": OURS,
    "data.source": "mnist",
    "trainer.max_epochs": paper.EPOCHS,
    "trainer.limit_train_batches": 1.0,
    "trainer.limit_val_batches": 1.0,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.gradient_clip_val": None,
}
PLACE = ["column", "batch_size", "seed"]


class Column(NamedTuple):
    """Runs that differ in batch size and seed alone.

    Args:
        name: Short, and no other column's.
        network: What tells its network from the others; empty for the paper's, and if there is one network only.
        rest: What else tells it from the others.
        unlike: In what it differs from the paper's experiment, apart from the machine and the precision.
    """

    name: str
    setup: str
    program: str
    precision: str
    network: str
    rest: str
    unlike: tuple[str, ...]

    @property
    def title(self) -> str:
        """What columns that differ in the network alone have in common."""
        return ", ".join(filter(None, [self.setup, self.program, self.precision, self.rest]))

    @property
    def order(self) -> tuple[object, ...]:
        """The paper's order of setups; our program, single precision and the paper's network first."""
        devices, _, kind = self.setup.partition("x")
        return kind != "cpu", int(devices), self.program, self.precision != "fp32", len(self.network), self


def columns(runs: Sequence[Run]) -> dict[Run, Column]:
    """The column of each run, in their order."""
    settings = {run: {**run.settings, "machine": name} for run, name in machines(runs).items()}
    names = sorted({name for each in settings.values() for name in each})
    differing = [name for name in names if _differs(name, settings)]
    found = {
        run: _column(run, {name: each[name] for name in differing if name in each}) for run, each in settings.items()
    }
    found = dict(sorted(found.items(), key=lambda each: each[1].order))
    # A letter tells columns of one name apart; those that differ in the name alone have the same letter.
    legends = list(dict.fromkeys((each.network, each.rest) for each in found.values()))
    several = Counter(each.name for each in set(found.values()))
    for run, each in found.items():
        if several[each.name] > 1:
            number = legends.index((each.network, each.rest))
            letter = ascii_lowercase[number] if number < len(ascii_lowercase) else str(number + 1)
            found[run] = each._replace(name=f"{each.name} {letter}")
    return found


def _column(run: Run, own: Mapping[str, Any]) -> Column:
    """A run's column, by those of its settings that differ between the runs."""
    settings = run.settings
    unlike = [
        name for name, value in PAPERS.items() if name in settings and _json(name, settings[name]) != _json(name, value)
    ]
    other = any(map(of_network, unlike))
    texts = {name: part(name, value) for name, value in own.items()}
    network = [text for name, text in texts.items() if text and of_network(name) and (other or name not in PAPERS)]
    rest = [text for name, text in texts.items() if text and not of_network(name) and name not in IN_THE_NAME]
    name = ", ".join(filter(None, [run.summary["setup"], *(texts.get(each, "") for each in IN_THE_NAME)]))
    told = tuple(part(each, settings[each]) for each in unlike)
    precision = part("trainer.precision", settings["trainer.precision"])
    return Column(name, run.summary["setup"], settings["program"], precision, ", ".join(network), ", ".join(rest), told)


def machines(runs: Sequence[Run]) -> dict[Run, str]:
    """The machine of each run, by a number. One whose clock moves stays the same machine."""
    told = {run: tuple(run.summary["machine"].get(part) for part in IDENTITY) for run in runs}
    numbers = {each: number for number, each in enumerate(dict.fromkeys(told.values()), 1)}
    return {run: f"machine {numbers[each]}" for run, each in told.items()}


def tidy(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run and metric, in the order of the columns.

    `left_out` says why the run's times are not used, if they are not, and `repeat` counts equal runs of one seed.
    """
    out, place, seen, rows = left_out(runs), machines(runs), Counter[tuple[object, ...]](), []
    for run, column in columns(runs).items():
        cell = column.name, run.summary["batch_size"], run.summary["seed"]
        of_column = {name: getattr(column, name) for name in ("setup", "precision", "network", "title")}
        of_run = {"repeat": seen[cell], "rate": run.rate, "left_out": out.get(run, ""), "machine": place[run]}
        shared = {**dict(zip(PLACE, cell, strict=True)), **of_column, **of_run}
        rows += [{**shared, "metric": name, "value": float(value)} for name, value in run.measured().items()]
        seen[cell] += 1
    names = [
        *PLACE,
        "setup",
        "precision",
        "network",
        "title",
        "repeat",
        "rate",
        "left_out",
        "machine",
        "metric",
        "value",
    ]
    return pd.DataFrame(rows, columns=names).astype({"value": float, "rate": float})


def values(table: pd.DataFrame, metric: str) -> pd.Series:
    """A metric by column, batch size and seed.

    Repeats of a seed give the same numbers, of which the newest counts, and other times, of which the median counts.
    """
    rows = table[table.metric == metric]
    if metric.startswith(TIMES):
        return rows[rows.left_out == ""].groupby(PLACE, sort=False).value.median()
    return rows.groupby(PLACE, sort=False).value.last()


def left_out(runs: Sequence[Run]) -> dict[Run, str]:
    """The runs whose times are not used, with the reason. Their accuracy and loss are."""
    place, usual, found = machines(runs), defaultdict[tuple[str, str], Counter[str]](Counter), {}
    for run in runs:
        for key in TRAINED_BY.keys() & run.summary["machine"]:
            usual[place[run], key][run.summary["machine"][key]] += 1  # times are compared on one machine only
    for run in runs:
        reasons = ["resumed"] * bool(run.summary.get("resumed"))
        reasons += ["other work on the machine"] * bool(busy_others(run.summary))
        for key, what in TRAINED_BY.items():
            own = run.summary["machine"].get(key)
            reasons += [what] * (own is not None and own != usual[place[run], key].most_common(1)[0][0])
        if reasons:
            found[run] = ", ".join(reasons)
    return found


def of_network(name: str) -> bool:
    """Whether a setting is one of the network."""
    return name == "network" or name.startswith("model.")


def part(name: str, value: Any) -> str:
    """A setting in the name of a column or in its legend; empty if it says nothing."""
    value = UNSET.get(name) if value is None else value
    if value in (None, "") and (name in (*OF_A_SETUP, "program") or of_network(name)):
        return ""
    short = {"trainer.precision": SHORT.get(str(value)), "network": value, "machine": value, "program": value}.get(name)
    return str(short) if short else f"{name.rpartition('.')[2]} {json.dumps(value)}"


def _json(name: str, value: Any) -> str:
    return json.dumps(UNSET.get(name) if value is None else value)


def _differs(name: str, settings: Mapping[Run, Mapping[str, Any]]) -> bool:
    found = defaultdict(set)
    for run, each in settings.items():
        # Values that follow from the setup or from the network are compared only within one setup or network.
        of = run.summary["setup"] if name in OF_A_SETUP else each["network"] if name.startswith("model.") else None
        if name in each:  # the config of a run from Python has only what a Trainer can be asked for
            found[of].add(_json(name, each[name]))
    return any(len(each) > 1 for each in found.values())
