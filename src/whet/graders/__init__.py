"""Graders: an answer, and the row that it answers -> a score. Kinds and fields are OpenAI's where OpenAI has the kind.

grader = build(load_grader("grader.yaml"))      whet.recipe has the parts
grader.check(rows)                              a column that no row has: RecipeError, before anything is graded
grader.grade(rows, answers)                     a Grade for each row; what fails has no score and says why

grade.py        what a grade and a grader are    build.py     from a part to a grader; multi
texts.py        string_check, number, json_schema, length
similarity.py   text_similarity                  models.py    score_model, label_model, reward_model
programs.py     python, code, function           confined.py  programs kept apart (box.py: their inside)
"""

from __future__ import annotations

from whet.graders.build import build
from whet.graders.grade import Grade, Grader

__all__ = ["Grade", "Grader", "build"]
