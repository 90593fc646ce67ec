"""What the report's numbers say in words; the template puts them in their places."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mnist_lightning import paper
from mnist_lightning.report import tables
from mnist_lightning.report.claims import Answer, Claim, judge
from mnist_lightning.report.columns import machines
from mnist_lightning.report.page import NOUNS, PAPER, TABLES, Page
from mnist_lightning.report.stats import CELL, METRICS, Ratio, at_usual_rate, measured, over_sizes

TIME = METRICS[0]


def sentences(page: Page) -> dict[str, Any]:
    """All that the template tells, by name."""
    judged = [judge(source) for source in page.sources]
    told = {
        "refuted": listed(f"{claim.text} ({each.told})" for claim, each, _ in judged[0] if each.says[:2] == "no")
        or "nothing",
        "slower": _slower(page),
        "buying": _buying(),
        "tables": {number: tables.main_table(page, number) for number in TABLES},
        "titles": {number: table.title for number, table in TABLES.items()},
        "claims": _claims(page, judged),
        "noise_of_the_paper": _noise_of_the_paper(page),
        "lines": tables.lines_table(page),
        "changes": [_change(*names, more) for names, more in tables.changes(page).items()],
        "two_processes": any(column.setup == "2xcpu" for column in page.columns),
    }
    if not page.runs:
        return told
    told |= {
        "what": _what(page),
        "where": listed(_machines(page)),
        "no_gpu": not any(column.setup.endswith("gpu") for column in page.columns),
        "legend": _legend(page),
        "own": tables.own_table(page),
        "networks": tables.networks_table(page),
        "measured": _measured(page),
    }
    if page.alike:
        ratios = tables.beside(page)
        told |= {
            "column": page.alike[0].name,
            "one_gpu": _beside_one_gpu(page, ratios),
            "apart": _apart(page),
            "beside": tables.beside_table(page),
            "ours": _ours(ratios),
            "quickest": _quickest(page),
        }
    return told


def listed(words: Iterable[object], last: str = "and") -> str:
    """Words with commas and an `and`."""
    texts = [str(word) for word in words]
    return f"{', '.join(texts[:-1])} {last} {texts[-1]}" if len(texts) > 1 else "".join(texts)


def plural(count: int, one: str) -> str:
    return f"{count} {one}{'s' * (count != 1)}"


def _what(page: Page) -> str:
    epochs, sizes, seeds = ({run.summary[name] for run in page.runs} for name in ("epochs", "batch_size", "seed"))
    trained = f"{listed(sorted(epochs))} epoch{'s' * (epochs != {1})}"
    return f"{plural(len(page.runs), 'run')} of {trained}, {plural(len(sizes), 'batch size')}, {plural(len(seeds), 'seed')}"


def _machines(page: Page) -> list[str]:
    """What each machine is, in a few words."""
    found: dict[str, dict[str, None]] = {}
    for run, name in machines(page.runs).items():
        machine = run.summary["machine"]
        text = f"{plural(machine['cores'], 'core')} of {machine['processor']}"
        found.setdefault(name, {})[f"{machine['gpu']} with {text}" if "gpu" in machine else text] = None
    return [" and ".join(texts) for texts in found.values()]


def _legend(page: Page) -> list[tuple[str, str]]:
    """What tells each column from the others and from the paper's experiment, where neither its name nor a table does."""
    compared = {each.column for each in tables.networks(page)}
    found = {}
    for column in page.columns:
        texts = [column.network, column.rest]
        texts += [text for text in column.unlike if text not in ", ".join(texts)]
        if any(texts) and column.name not in compared:
            found[column.name] = "; ".join(filter(None, texts))
    return list(found.items())


def _beside_one_gpu(page: Page, ratios: list[tuple[str, str, dict[str, Ratio]]]) -> str:
    ((_, _, found),) = (each for each in ratios if each[:2] == (page.alike[0].name, "paper, 1xgpu"))
    text = listed(f"{ratio.told()} times the {NOUNS[metric]} ({ratio.verdict})" for metric, ratio in found.items())
    noise, n = page.late["errors"], page.ran[page.alike[0].name].min()
    return f"{text}; one size could hide {100 * noise.seen(1 + 1 / n):.0f} % more errors" if noise.freedom else text


def _apart(page: Page) -> str:
    """The paper's cells that one late epoch of ours would give in one case of twenty at most."""
    count, found = 0, defaultdict[tuple[str, int], list[str]](list)
    for setup, metric in product(paper.SETUPS, METRICS[1:]):
        own = page.log[metric][page.alike[0].name].groupby("batch_size")
        for size, log in (page.sources[0].tables[metric][setup] - own.mean()).dropna().items():
            count += 1
            if page.late[metric].p(log, 1 + 1 / own.size()[size]) < 0.05:
                found[setup, size].append(NOUNS[metric])
    alike = defaultdict[tuple[str, str], list[int]](list)
    for (setup, size), nouns in found.items():
        alike[setup, listed(nouns)].append(size)
    cells = listed(f"`{setup}` at {listed(sizes)} ({nouns})" for (setup, nouns), sizes in alike.items())
    number = sum(map(len, found.values()))
    return f"{number} of the paper's {count} cells, where chance gives {0.05 * count:.0f}{': ' * bool(cells)}{cells}"


def _slower(page: Page) -> str:
    one, two = (tables.lines(page)[f"paper, {setup}"] for setup in paper.SETUPS[1:])
    step, image = 1e3 * (two.per_step - one.per_step), 100 * (1 - two.fixed / one.fixed)
    between = listed(tables.between(PAPER["I"]["2xgpu"] - PAPER["I"]["1xgpu"]))
    return f"a step cost {step:.1f} ms more, an image {image:.0f} % less; the faster one changes {between} images"


def _buying() -> str:
    seconds, small, large = PAPER["I"], paper.BATCH_SIZES[0], paper.BATCH_SIZES[-1]
    least, most = (seconds["1xcpu"][size] / seconds["1xgpu"][size] for size in (small, large))
    more, less = (100 * (seconds["2xgpu"][size] / seconds["1xgpu"][size] - 1) for size in (small, large))
    return (
        f"the paper's GPU was {least:.2g} (batch size {small}) to {most:.2g} times ({large}) as fast as its CPU; a second took "
        f"{more:.0f} % longer at {small}, and saved {-less:.0f} % at {large}"
    )


def _ours(ratios: list[tuple[str, str, dict[str, Ratio]]]) -> str:
    """Our columns beside each other: the seconds in numbers, and errors and loss too if they are not equal everywhere."""
    own = [each for each in ratios if not each[1].startswith("paper")]
    texts = [f"`{column}` took {found[TIME].told()} times `{other}`" for column, other, found in own if TIME in found]
    apart = [
        f"`{column}` has {ratio.told()} times the {NOUNS[metric]} of `{other}`"
        for column, other, found in own
        for metric, ratio in found.items()
        if metric != TIME and ratio.verdict != "equal"
    ]
    return "; ".join([*texts, *(apart or ["errors and loss are equal"] if own else [])])


def _quickest(page: Page) -> str:
    """Where an accuracy of 99 % was reached first, and whether the seeds tell it from the next batch size."""
    reached = page.of_columns(measured(page.table, "seconds/to_99"), [column.name for column in page.alike])
    whole = {cell: log[cell] for cell, log in reached.groupby(CELL) if len(log) == page.ran[cell]}
    if not whole:
        return ""
    (name, size), *rest = sorted(whole, key=lambda cell: whole[cell].mean())
    text = f"99 % first: `{name}` at {size}, {np.exp(whole[name, size].mean()):.1f} s (n {page.ran[name, size]})"
    for next_one in [cell for cell in rest if cell[0] == name][:1]:
        ratio = over_sizes((whole[next_one] - whole[name, size]).dropna())
        text += f"; {next_one[1]} took {ratio.told()} times that"
    return text


def _claims(page: Page, judged: list[list[tuple[Claim, Answer, bool]]]) -> tables.Rows:
    rows = [["claim", "where", *(text for source in page.sources for text in (source.name, "beyond noise?"))]]
    for each in zip(*judged, strict=True):
        answers = [text for _, answer, sure in each for text in (answer.says, "yes" if sure else "cannot tell")]
        rows.append([each[0][0].text, each[0][0].place, *answers])
    return rows


def _noise_of_the_paper(page: Page) -> str:
    text = f"its times as they do around the lines below, {100 * page.sources[0].noise[METRICS[0]].deviation:.1f} %"
    late = [f"{NOUNS[m]} {100 * noise.deviation:.0f} %" for m, noise in page.late.items() if noise.freedom]
    known = f"its errors and loss as late epochs of `{page.alike[0].name}` do ({listed(late)})" if late else ""
    return f"{text}, and {known or 'how far its errors and loss do, only runs of ours would say'}"


def _change(one: str, two: str, more: pd.Series) -> str:
    each = [f"{seconds:+.1f} s at {size}".replace("-", "−") for size, seconds in more.items()]
    return (
        f"{two} instead of {one}: {listed(each)}; the faster one changes {listed(tables.between(more)) or 'nowhere'}."
    )


def _measured(page: Page) -> list[str]:
    """The machines with their software and rates, and what was done with the times."""
    texts = []
    for name in dict.fromkeys(machines(page.runs).values()):
        own = [run.summary for run, each in machines(page.runs).items() if each == name]
        told: dict[str, dict[str, None]] = defaultdict(dict)
        for item, value in (each for summary in own for each in summary["machine"].items()):
            if value != "" and item not in ("precision", "load_before"):
                told[item][str(value)] = None
        items = [f"{item} {listed(each, 'or')}" for item, each in told.items()]
        rates = pd.DataFrame([moment for summary in own for moment in summary.get("calibration", {}).values()])
        items += [
            f"{item} {rates[item].median():.1f} ({rates[item].min():.1f} to {rates[item].max():.1f})" for item in rates
        ]
        texts.append(f"{name}: {'; '.join(items)}{'' if len(rates) else '; not calibrated'}")
    power, _ = at_usual_rate(page.table)
    if power:
        used = "are told as at its machine's usual rate" if power.high < 0 else "are told as they are"
        texts.append(f"Seconds follow the rate in fp32 to the power of {power.told()}: they {used}.")
    for column in page.columns:
        noise = [
            f"{NOUNS[m]} {100 * each.deviation:.1f} %" for m, each in page.scatter(column.name).items() if each.freedom
        ]
        texts += [f"One run of `{column.name}` scatters by {listed(noise)}."] if noise else []
    out = f"The times of {plural(len(page.left_out), 'run')} are left out: {listed(dict.fromkeys(page.left_out.values()), 'or')}."
    return [*texts, out if page.left_out else "The times of all runs are used."]
