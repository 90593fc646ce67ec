"""The columns of the report: which runs belong together, what they are called, and which can stand beside the paper's."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any, NamedTuple

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.measure.disturbance import busy_others
from mnist_lightning.report.runs import OURS, Run

IDENTITY = ("processor", "family", "model", "stepping", "cores")  # of a machine, whose rate may differ from day to day
OF_A_SETUP = ("threads", "gpu", "convolutions")  # two setups on one machine may differ in these
SHORT = {"32-true": "fp32", "bf16-mixed": "bf16", "64-true": "fp64", "16-mixed": "fp16"}
IN_THE_NAME = ("program", "trainer.precision")  # all other settings are told in the legend
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
    **dict.fromkeys(("trainer.limit_train_batches", "trainer.limit_val_batches"), 1.0),
    "trainer.check_val_every_n_epoch": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.gradient_clip_val": None,
}
PLACE = ["column", "batch_size", "seed"]


class Column(NamedTuple):
    """Runs that differ in batch size and seed alone."""

    name: str  # short, and no other column's
    setup: str
    program: str
    precision: str
    network: str  # what tells its network from the others; empty for the paper's, and if there is one network only
    rest: str  # what else tells it from the others
    unlike: tuple[str, ...]  # in what it differs from the paper's experiment, apart from the machine and the precision

    @property
    def title(self) -> str:
        """What columns that differ in the network alone have in common."""
        return ", ".join(filter(None, [self.setup, self.program, self.precision, self.rest]))

    @property
    def legend(self) -> str:
        """What tells it from the others and from the paper's experiment."""
        told = list(filter(None, [self.network, self.rest]))
        return "; ".join([*told, *(text for text in self.unlike if text not in ", ".join(told))])

    @property
    def order(self) -> tuple[object, ...]:
        """The paper's order of setups; our program, single precision and the paper's network first."""
        devices, _, kind = self.setup.partition("x")
        return kind != "cpu", int(devices), self.program, self.precision != "fp32", len(self.network), self


def columns(runs: Sequence[Run]) -> dict[Run, Column]:
    """The column of each run, in their order."""
    settings = {run: {**run.settings, "machine": name} for run, name in machines(runs).items()}
    texts = pd.DataFrame({run: {name: told(name, each[name]) for name in each} for run, each in settings.items()}).T
    differing = [name for name in sorted(texts) if _differs(texts, name, [run.summary["setup"] for run in runs])]
    found = {run: _column(run, texts.loc[run, differing].dropna()) for run in runs}
    found = dict(sorted(found.items(), key=lambda each: each[1].order))
    # A letter tells columns of one name apart; those that differ in the name alone have the same letter.
    legends = list(dict.fromkeys((each.network, each.rest) for each in found.values()))
    several = Counter(each.name for each in set(found.values()))
    for run, each in found.items():
        number = legends.index((each.network, each.rest))
        letter = ascii_lowercase[number : number + 1] or str(number + 1)
        found[run] = each._replace(name=f"{each.name} {letter}" if several[each.name] > 1 else each.name)
    return found


def _column(run: Run, own: Mapping[str, str]) -> Column:
    """A run's column, by the texts of those of its settings that differ between the runs."""
    settings, setup = run.settings, run.summary["setup"]
    unlike = [name for name in PAPERS if name in settings and told(name, settings[name]) != told(name, PAPERS[name])]
    other = any(map(_of_network, unlike))
    network = [text for name, text in own.items() if text and _of_network(name) and (other or name not in PAPERS)]
    rest = [text for name, text in own.items() if text and not _of_network(name) and name not in IN_THE_NAME]
    name = ", ".join(filter(None, [setup, *(own.get(each) for each in IN_THE_NAME)]))
    precision = told("trainer.precision", settings["trainer.precision"])
    unlike_texts = tuple(told(each, settings[each]) for each in unlike)
    return Column(name, setup, settings["program"], precision, ", ".join(network), ", ".join(rest), unlike_texts)


def _differs(texts: pd.DataFrame, name: str, setups: Sequence[str]) -> bool:
    # What follows from the setup or from the network is compared only within one setup or network.
    within = [setups] * (name in OF_A_SETUP) + [texts.network] * name.startswith(("model.", "convolutions"))
    return bool(texts[name].groupby(within or [0] * len(texts)).nunique().max() > 1)


def machines(runs: Sequence[Run]) -> dict[Run, str]:
    """The machine of each run, by a number that does not depend on their order. One whose clock moves stays the same machine."""
    own = {run: tuple(run.summary["machine"].get(part) for part in IDENTITY) for run in runs}
    numbers = {each: number for number, each in enumerate(sorted(set(own.values()), key=str), 1)}
    return {run: f"machine {numbers[each]}" for run, each in own.items()}


def tidy(found: Mapping[Run, Column]) -> pd.DataFrame:
    """One row a run and metric, in the order of the columns. `left_out` says why the run's times are not used, if they are not."""
    rows = []
    for (run, column), machine in zip(found.items(), machines(list(found)).values(), strict=True):
        summary = run.summary
        reasons = {"resumed": summary.get("resumed"), "other work on the machine": busy_others(summary)}
        left_out = ", ".join(reason for reason, holds in reasons.items() if holds)
        shared = {"column": column.name, "batch_size": summary["batch_size"], "seed": summary["seed"]}
        shared |= {name: getattr(column, name) for name in ("setup", "precision", "network", "title")}
        shared |= {"rate": run.rate, "left_out": left_out, "machine": machine}
        rows += [{**shared, "metric": name, "value": value} for name, value in run.measured.items()]
    return pd.DataFrame(rows)


def values(table: pd.DataFrame, metric: str) -> pd.Series:
    """A metric by column, batch size and seed. Equal runs of one seed give the same numbers, of which the newest counts, and other
    times, of which the median counts."""
    rows = table[table.metric == metric]
    if metric.startswith(("seconds/", "median/")):
        return rows[rows.left_out == ""].groupby(PLACE, sort=False).value.median()
    return rows.groupby(PLACE, sort=False).value.last()


def told(name: str, value: Any) -> str:
    """A setting in the name of a column or in its legend; empty if it says nothing."""
    value = UNSET.get(name) if value is None else value
    if value in (None, "") and (name == "program" or _of_network(name)):
        return ""
    short = {"trainer.precision": SHORT.get(str(value)), "network": value, "machine": value, "program": value}.get(name)
    return str(short) if short else f"{name.rpartition('.')[2]} {json.dumps(value)}"


def _of_network(name: str) -> bool:
    return name == "network" or name.startswith("model.")
