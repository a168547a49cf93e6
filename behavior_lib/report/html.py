"""The report as one HTML file that needs nothing else: styles, script and figures stand inside it."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

from behavior_lib.report import charts, numbers, sections, stories, verdict
from behavior_lib.report.data import Item, ReportData
from behavior_lib.report.item_map import WIDTH, draw_map
from behavior_lib.version import __version__

_FOLDER = "templates"


def render(data: ReportData) -> str:
    """The report's HTML. Every text of the data is escaped; what is not there yet is said in one sentence."""
    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        count=numbers.count,
        day=numbers.day,
        moment=numbers.moment,
        plural=numbers.plural,
        seconds=numbers.seconds,
        text=_item_text,
    )
    return environment.get_template("report.html.j2").render(**_context(data))


def _context(data: ReportData) -> dict[str, object]:
    model = data.model
    epochs = model.epochs if model is not None else ()
    return {
        "data": data,
        "library_version": __version__,
        "figures": sections.figures(data),
        "verdict": verdict.verdict(data.scores),
        "wins": verdict.wins(data.scores),
        "ledger": sections.ledger(data.batches),
        "conservation": sections.conservation(data.batches),
        "rules": sections.rule_bars(data.rules),
        "activity": charts.over_time(data.events_by_day, data.cuts) if data.events_by_day else None,
        "busiest": sections.busiest(data.events_by_day) if data.events_by_day else "",
        "distributions": sections.distributions(data.sessions) if data.sessions is not None else (),
        "loss": charts.training(epochs, "loss", "Loss"),
        "validation": charts.training(epochs, "validation", "Validation NDCG"),
        "splits": verdict.split_tables(data.scores),
        "map": draw_map(data.vectors) if data.vectors is not None else None,
        "map_width": WIDTH,
        "stories": tuple(stories.story(user) for user in data.stories),
    }


def _item_text(item: Item) -> str:
    return f"{item.name} ({item.group})" if item.group else item.name


def _read(name: str) -> str:
    return (files(__package__) / _FOLDER / name).read_text(encoding="utf-8")
