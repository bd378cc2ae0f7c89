"""From a recipe's part to a grader; and `multi`, which is made of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whet.graders import models, programs, similarity, texts
from whet.graders.grade import Grade, Grader, cases_of, said
from whet.graders.models import RewardModel
from whet.graders.similarity import Embedder
from whet.recipe.formula import Formula
from whet.recipe.graders import (
    CodePart,
    FunctionPart,
    GraderPart,
    JSONSchemaPart,
    LabelModelPart,
    LengthPart,
    MultiPart,
    NumberPart,
    PythonPart,
    RewardModelPart,
    ScoreModelPart,
    StringCheckPart,
    TextSimilarityPart,
)


def build(
    part: GraderPart,
    reward_models: Mapping[str, RewardModel] = {},
    embedders: Mapping[str, Embedder] = {},
    name: str = "",
) -> Grader:
    """The grader of a part. `reward_models` are functions of (prompts, answers) by the `model` of their parts,
    `embedders` functions of texts by `embedding_model`: this room opens no models. `name` goes before the part's own.

    Raises RecipeError for settings that cannot be kept here, MissingExtra without a package that is needed.
    """
    name = name or part.name or part.type
    match part:
        case MultiPart():
            graders = {key: build(one, reward_models, embedders, key) for key, one in part.graders.items()}
            return Multi(name, graders, Formula(part.calculate_output, graders))
        case TextSimilarityPart():
            return similarity.text_similarity(part, name, embedders)
        case RewardModelPart():
            return models.reward_model(part, name, reward_models)
        case StringCheckPart():
            return texts.string_check(part, name)
        case NumberPart():
            return texts.number(part, name)
        case JSONSchemaPart():
            return texts.json_schema(part, name)
        case LengthPart():
            return texts.length(part, name)
        case PythonPart():
            return programs.python(part, name)
        case CodePart():
            return programs.code(part, name)
        case FunctionPart():
            return programs.function(part, name)
        case ScoreModelPart():
            return models.score_model(part, name)
        case LabelModelPart():
            return models.label_model(part, name)


class Multi(Grader):
    """A formula over the scores of graders. There is no score where one that the formula uses has none; graders that it
    does not use are told in `parts` alone."""

    def __init__(self, name: str, graders: Mapping[str, Grader], formula: Formula) -> None:
        super().__init__(name, lambda cases: [])
        self.graders, self.formula = graders, formula

    def check(self, items: Sequence[Mapping[str, Any]]) -> None:
        for grader in self.graders.values():
            grader.check(items)

    def grade(self, items: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[Grade]:
        each = {name: grader.grade(items, answers) for name, grader in self.graders.items()}
        cases = cases_of(items, answers)
        return [
            self._joined({name: found[n] for name, found in each.items()}, cases[n].place) for n in range(len(cases))
        ]

    def _joined(self, grades: Mapping[str, Grade], place: str) -> Grade:
        parts = {name: grade.score for name, grade in grades.items() if grade.score is not None}
        faults = [grade.fault for name, grade in grades.items() if name in self.formula.names and grade.fault]
        if faults:
            return Grade(None, parts, f"{self.name}: {'; '.join(faults)}")
        try:
            return Grade(self.formula(parts), parts)
        except (ArithmeticError, ValueError) as error:
            return Grade(None, parts, f"{self.name}, {place}: calculate_output: {said(error)}")
