"""What `make bench-quality` found, as tables and as the page docs/quality.md has it."""

from __future__ import annotations

import json
import re
import shlex
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from behavior_lib.tables.sequences import TEST, VALIDATION
from benchmarks.bake_off import WITHOUT_PATHS, Candidate

HEADLINE = "ndcg@10"
REFIT_TEST = "refit_test"  # the figure on test of the model that was trained once more, up to its cut
LEADS = "leads"  # by baseline: how far the model is ahead on test, and the paired error, user by user
METHODS, BAKE_OFF = "methods", "bake_off"  # every run's figures, and every candidate's


def mean(runs: Sequence[Mapping[str, Any]], split: str) -> tuple[float, float]:
    """The mean over seeds, and its standard error; where there is one run, that over users."""
    values = [float(each[split]) for each in runs]
    if len(values) == 1:
        return values[0], float(runs[0][f"{split}_error"])
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


def as_markdown(data: str, methods: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """One table, the best on validation first."""
    lines = [
        f"| {data} | seeds | validation {HEADLINE} | test | test, refit | seconds to train |",
        "|---|" + "---|" * 5,
    ]
    for name, runs in sorted(methods.items(), key=lambda pair: -mean(pair[1], VALIDATION)[0]):
        splits = [split for split in (VALIDATION, TEST, REFIT_TEST) if split in runs[0]]
        figures = ["{:.4f} ± {:.4f}".format(*mean(runs, split)) for split in splits] + [""] * (3 - len(splits))
        seconds = [each["seconds"] for each in runs if "seconds" in each]
        time_taken = f"{statistics.median(seconds):.0f}" if seconds else ""
        lines.append(f"| {name} | {len(seconds) or ''} | {' | '.join(figures)} | {time_taken} |")
    return lines


def budget_table(data: str, budget: float, found: Sequence[Candidate]) -> list[str]:
    """One line a candidate, in their order; nothing where there is none."""
    if not found:
        return []
    head = f"| {data}, {budget:g} CPU seconds | measured | epochs, kept | validation {HEADLINE} |"
    lines = [head, "|---|" + "---|" * 3]
    for each in found:
        lines.append(
            f"| {each.name} | {each.cpu_seconds:.0f} | {each.epochs:g}, {each.kept:g} | {each.validation:.4f} |"
        )
    return lines


def crossed_table(data: str, found: Sequence[Candidate]) -> list[str]:
    """Encoders across, in the order of `found`; down they alone, with each objective, and without the paths.

    Objectives have the mean of their leads over the encoders alone, the best first, with its standard error over them.
    Nothing where no encoder is there alone.
    """
    reached = {each.name: each.validation for each in found}
    encoders = [name for name in reached if not re.search(r"[+:]", name)]
    if not encoders:
        return []
    objectives = {name.partition("+")[2] for name in reached if re.fullmatch(r"[^:]+\+.+", name)}
    leads = {
        each: own
        for each in objectives
        if (own := [reached[f"{name}+{each}"] - reached[name] for name in encoders if f"{name}+{each}" in reached])
    }
    rows = [("alone", "{}", "")]
    rows += [
        (each, f"{{}}+{each}", lead_over(own))
        for each, own in sorted(leads.items(), key=lambda pair: (-statistics.mean(pair[1]), pair[0]))
    ]
    rows += [("without paths", f"{WITHOUT_PATHS}:{{}}", "")]
    lines = [
        f"| {data}, validation {HEADLINE} | {' | '.join(encoders)} | mean lead |",
        "|---|" + "---|" * (len(encoders) + 1),
    ]
    for label, pattern, lead in rows:
        values = [reached.get(pattern.format(name)) for name in encoders]
        if any(value is not None for value in values):
            cells = " | ".join("" if value is None else f"{value:.4f}" for value in values)
            lines.append(f"| {label} | {cells} | {lead} |")
    return lines


def lead_over(leads: Sequence[float]) -> str:
    """Their mean, with its standard error where there are several."""
    error = f" ± {statistics.stdev(leads) / len(leads) ** 0.5:.4f}" if len(leads) > 1 else ""
    return f"{statistics.mean(leads):+.4f}{error}"


def best(methods: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The best model and the best baseline, both chosen on validation, and what they reach on test.

    Baselines count all that is known before the test cut; so the model's figure is that of its refit, if there is one.
    standard_error: of the mean `over` seeds, or where there is one run over users. lead: of the model's first seed over
    that baseline, with the paired error over users.
    """
    told: dict[str, Any] = {}
    for kind, is_baseline in (("model", False), ("baseline", True)):
        those = {name: runs for name, runs in methods.items() if bool(runs[0].get("is_baseline")) is is_baseline}
        name = max(those, key=lambda name: mean(those[name], VALIDATION)[0])
        value, error = mean(those[name], REFIT_TEST if REFIT_TEST in those[name][0] else TEST)
        over = "users" if len(those[name]) == 1 else "seeds"
        told[kind] = {"name": name, HEADLINE: round(value, 4), "standard_error": round(error, 4), "over": over}
    ahead, paired = methods[told["model"]["name"]][0][LEADS][told["baseline"]["name"]]
    return {**told, "lead": {"value": round(ahead, 4), "standard_error": round(paired, 4)}}


def around(page: Path, text: str, data: str) -> tuple[str, str]:
    """What stands up to the tables of one data set and from them on, marks included. Ends the program without marks."""
    begin, end = (f"<!-- {place} of what make bench-quality wrote: {data} -->" for place in ("begin", "end"))
    before, is_begun, rest = text.partition(f"{begin}\n")
    _, is_ended, after = rest.partition(end)
    if not (is_begun and is_ended):
        raise SystemExit(f"{page} has no lines {begin!r} and {end!r}: put them where the tables of {data} belong")
    return f"{before}{begin}", f"{end}{after}"


def check_page(page: Path, data: Iterable[str]) -> None:
    """End the program before hours are spent, where `write_page` could not write what was found."""
    if not page.is_file():
        raise SystemExit(f"--page {page} is no file")
    text = page.read_text(encoding="utf-8")
    for name in data:
        around(page, text, name)
    summary(page, text)


def summary(page: Path, text: str) -> tuple[str, dict[str, Any]]:
    """What stands before the last line, and that line, a JSON object. Ends the program where it is none."""
    before, _, last = text.rstrip("\n").rpartition("\n")
    try:
        return before, dict(json.loads(last))
    except ValueError as error:
        raise SystemExit(f"the last line of {page} is no JSON object: end it with {{}}") from error


def write_page(page: Path, told: Mapping[str, Any], argv: Sequence[str], budget: float) -> None:
    """Put what was found between each data set's marks, and the summary into the page's last line.

    told: what `quality.run` returns. What the page says of other data, and all that people wrote, stays as it is.
    """
    text = page.read_text(encoding="utf-8")
    for data, found in told.items():
        before, after = around(page, text, data)
        text = "\n".join([before, *section(data, found, argv, budget), after])
    text, summed_up = summary(page, text)
    for data, found in told.items():
        summed_up[data] = {key: found[key] for key in found if key not in (METHODS, BAKE_OFF)}
    page.write_text("\n".join([text, json.dumps(summed_up), ""]), encoding="utf-8")


def section(data: str, found: Mapping[str, Any], argv: Sequence[str], budget: float) -> list[str]:
    """The lines of one data set: how it was run, the finals, and the candidates."""
    # Where files lie on this machine is nobody's business.
    words = shlex.join(Path(word).name if Path(word).is_absolute() else word for word in argv)
    run = f"`python -m benchmarks quality {words}`, {time.strftime('%Y-%m-%d')}, {processor()}"
    candidates = [Candidate(**each) for each in found[BAKE_OFF]]
    tables = as_markdown(data, found[METHODS]), crossed_table(data, candidates), budget_table(data, budget, candidates)
    return [run, "", *(line for table in tables for line in [*table, ""])]


def processor() -> str:
    """What the machine says of its processors."""
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = re.findall(r"model name\s*: (.*)", told)
    return f"{len(names)} cores, {names[0]}" if names else "an unknown processor"
