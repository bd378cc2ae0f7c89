"""The report of a run: one HTML file with everything in it, made of the run folder's files alone.

No script, no network, no second file: it can be mailed, archived, and opened under the strictest content policy.
Everything that people or models wrote is escaped by the template.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from whet.look import css, write_whole
from whet.train.report.content import along_the_way, evaluated, headline, ledger, notices, samples, subtitle, tiles
from whet.train.report.plots import plots_of
from whet.train.runs import read_run


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, from its other files, and return its path.

    A run that is unfinished, failed or measured nothing has a report too, which says so. The file appears whole or not
    at all. Raises RunError where the folder is not a run's, StorageError where the file cannot be written.
    """
    run = read_run(folder)
    page = _template().render(
        name=folder.resolve().name,
        css=css(),
        status=run.status,
        headline=headline(run),
        subtitle=subtitle(run),
        notices=notices(run),
        tiles=tiles(run),
        plots=plots_of(run),
        samples=samples(run),
        looks=along_the_way(run),
        evaluated=evaluated(run),
        ledger=ledger(run.preflight),
        recipe=(folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace"),
        versions=(run.summary or {}).get("versions", {}),
    )
    return write_whole(folder / "report.html", page)


@cache
def _template() -> Template:
    text = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text)
