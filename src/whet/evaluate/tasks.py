"""lm-eval's task files for local data: a YAML that says how rows become questions (EleutherAI's harness, 0.4).

Read are multiple-choice tasks over JSON lines and CSV. What a file asks for beyond that is an error that names the key,
never a figure that only looks like lm-eval's.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from whet.data.formats import records
from whet.errors import RecipeError, RowError
from whet.evaluate.choice import Question

_READ = {
    "task", "dataset_path", "dataset_kwargs", "dataset_name", "training_split", "validation_split", "test_split",
    "fewshot_split", "output_type", "doc_to_text", "doc_to_target", "doc_to_choice", "description", "num_fewshot",
    "target_delimiter", "fewshot_delimiter", "fewshot_config", "metric_list",
}  # fmt: skip
_IGNORED = {"metadata", "tag", "task_alias", "group", "should_decontaminate", "doc_to_decontamination_query", "dataset"}
_KINDS = {"json": ".jsonl", "csv": ".csv"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A task file, read. `settings` are lm-eval's, under its own names."""

    name: str
    folder: Path
    settings: dict[str, Any]
    environment: Any = field(default_factory=lambda: SandboxedEnvironment(undefined=StrictUndefined))

    def questions(self, num_fewshot: int | None = None) -> list[Question]:
        """The questions of the test split (or validation), each behind its description and few-shot examples."""
        of = self.settings
        split = of.get("test_split") or of.get("validation_split") or of.get("training_split")
        shots = of.get("num_fewshot") or 0 if num_fewshot is None else num_fewshot
        before = str(of.get("description") or "")
        if shots:
            before += self._examples(shots, split)
        return [self._question(row, place, before) for place, row in self._rows(split)]

    def _examples(self, shots: int, split: Any) -> str:
        config = self.settings.get("fewshot_config") or {}
        where = self.settings.get("fewshot_split") or self.settings.get("training_split")
        if config.get("sampler") != "first_n" or set(config) - {"sampler", "split"}:
            what = "few-shot examples that are drawn at random, as without `fewshot_config: {sampler: first_n}`,"
            raise RecipeError(f"{what} are not read", where=self.name, do="take the first n")
        where = config.get("split") or where
        if where is None or where == split:
            raise RecipeError("no split for few-shot examples", where=self.name, do="name another one: fewshot_split")
        rows = self._rows(where)
        if len(rows) < shots:
            raise RowError(f"{shots} examples asked for, {len(rows)} in split {where}", where=self.name)
        return "".join(self._example(row, place) for place, row in rows[:shots])

    def _example(self, row: Row, place: str) -> str:
        question = self._question(row, place, "")
        if question.answer is None:
            raise RowError("an example needs an answer", where=place)
        gap = str(self.settings.get("fewshot_delimiter", "\n\n"))
        return question.context + question.goes_on(question.answer) + gap

    def _question(self, row: Row, place: str, before: str) -> Question:
        options = self._options(row, place)
        target = self._filled(self.settings["doc_to_target"], row, place)
        answer = int(target) if str(target).strip().lstrip("-").isdigit() else None
        if answer is None and target in options:
            answer = options.index(target)
        if answer is None or not 0 <= answer < len(options):
            raise RowError(f"the answer {target!r} is none of the options {options}", where=place)
        text = before + str(self._filled(self.settings["doc_to_text"], row, place))
        delimiter = str(self.settings.get("target_delimiter", " "))
        return Question(text, tuple(options), answer, place, delimiter=delimiter)

    def _options(self, row: Row, place: str) -> list[str]:
        asked = self.settings["doc_to_choice"]
        if isinstance(asked, dict):
            asked = list(asked.values())
        found = asked if isinstance(asked, list) else self._filled(asked, row, place)
        if isinstance(found, str):
            try:
                found = ast.literal_eval(found)
            except (ValueError, SyntaxError):
                raise RowError(f"doc_to_choice gives no list: {found!r}", where=place) from None
        return [str(option) for option in found]

    def _filled(self, template: Any, row: Row, place: str) -> Any:
        """A column's value, where the template is its name; else the template, filled with the row."""
        if not isinstance(template, str):
            return template
        if template in row:
            return row[template]
        try:
            return self.environment.from_string(template).render(**row)
        except TemplateError as error:
            raise RowError(f"template {template!r}: {error}", where=place, do=f"the row has {', '.join(row)}") from None

    def _rows(self, split: Any) -> list[tuple[str, Row]]:
        files = (self.settings.get("dataset_kwargs") or {}).get("data_files")
        if isinstance(files, dict):
            files = files.get(split)
        named = files if isinstance(files, list) else [files] if files else []
        if not named:
            raise RecipeError(f"no data_files for split {split!r}", where=self.name, do="name them in dataset_kwargs")
        found = []
        for name in named:
            path = self.folder / name
            found += records(path, str(path))
        return found


def read_task(path: str | Path) -> Task:
    """The task in a YAML file. Raises RecipeError for what is missing or not read here, with the key."""
    file = Path(path)
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        what = str(getattr(error, "problem", None) or getattr(error, "strerror", None) or error)
        raise RecipeError(f"not a task file: {what}", where=str(path)) from None
    if not isinstance(tree, dict) or "doc_to_text" not in tree:
        raise RecipeError("not a task file: no doc_to_text", where=str(path), do="see lm-eval's task guide")
    for key in tree:
        if key not in _READ | _IGNORED:
            raise RecipeError(f"`{key}` is not read", where=str(path), do=f"read are {', '.join(sorted(_READ))}")
    if tree.get("output_type", "generate_until") != "multiple_choice" or "doc_to_choice" not in tree:
        raise RecipeError("only multiple-choice tasks are read", where=str(path), do="output_type: multiple_choice")
    if tree.get("dataset_path") not in _KINDS:
        raise RecipeError(
            f"dataset_path {tree.get('dataset_path')!r} is no local data",
            where=str(path),
            do="dataset_path: json (or csv), and dataset_kwargs: {data_files: {test: rows.jsonl}}",
        )
    return Task(str(tree.get("task") or file.stem), file.parent, tree)
