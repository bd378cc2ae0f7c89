"""The graders of a recipe: a part a kind, told apart by `type`. Kinds and fields are OpenAI's where OpenAI has the
kind; `number`, `json_schema`, `length`, `code`, `function` and `reward_model` are whet's own, in the same style."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from whet.errors import RecipeError, did_you_mean
from whet.recipe.endpoint import EndpointPart
from whet.recipe.faults import check_part, parts_in
from whet.recipe.formula import Formula
from whet.recipe.part import Part
from whet.recipe.template import Template

ANSWER = "{{sample.output_text}}"
LARGEST_SOURCE = 256 << 10
"""Characters of a python grader."""


def _sound(text: str) -> str:
    Template(text)
    return text


Text = Annotated[str, AfterValidator(_sound)]
"""With {{item.NAME}}, a column of the row, and {{sample.output_text}}, the answer."""
Positive = Annotated[float, Field(gt=0)]


class _Grader(Part):
    name: str = ""
    """In figures and messages; none: its type."""


class _Compared(_Grader):
    input: Text = ANSWER
    """What is graded."""
    reference: Text
    """What it is compared with."""


class StringCheckPart(_Compared):
    type: Literal["string_check"] = "string_check"
    operation: Literal["eq", "ne", "like", "ilike"]
    """Equal, not equal, contains the reference, contains it in any case."""


class TextSimilarityPart(_Compared):
    type: Literal["text_similarity"] = "text_similarity"
    evaluation_metric: Literal[
        "cosine", "fuzzy_match", "bleu", "gleu", "meteor",
        "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
    ]  # fmt: skip
    embedding_model: str = ""
    """Of cosine: a run or a model."""

    @model_validator(mode="after")
    def _embedded(self) -> TextSimilarityPart:
        if (self.evaluation_metric == "cosine") != bool(self.embedding_model):
            raise ValueError("cosine needs an `embedding_model`, a run or a model, and no other metric has one")
        return self


class _Confined(_Grader):
    timeout: Positive = 5.0
    """Seconds for a row."""
    memory_mb: Annotated[int, Field(ge=64)] = 1024
    """For each process."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes at once."""
    allow_network: bool = False
    """The program may use the network, and also runs where the kernel has no walls at all, not against what it writes
    either. Only for programs that you have read."""


class PythonPart(_Confined):
    type: Literal["python"] = "python"
    source: Annotated[str, Field(max_length=LARGEST_SOURCE)]
    """Python text with `def grade(sample, item) -> float`; run in a confined process."""
    image_tag: str | None = None
    """OpenAI's; without effect, as the packages are those that are installed here."""

    @field_validator("source")
    @classmethod
    def _python(cls, source: str) -> str:
        try:
            compile(source, "<source>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"no Python: {error}") from None
        return source


class CodePart(_Confined):
    type: Literal["code"] = "code"
    input: Text = ANSWER
    """The answer, whose code fences are taken."""
    tests: Text = "{{item.tests}}"
    """Python text that is run after it."""


class Message(Part):
    role: Literal["user", "assistant", "system", "developer"]
    content: Text
    type: Literal["message"] = "message"

    @field_validator("content", mode="before")
    @classmethod
    def _text(cls, content: Any) -> Any:
        """OpenAI's long forms: {type: input_text | output_text, text}, or a list of one."""
        if isinstance(content, list) and len(content) == 1:
            content = content[0]
        if isinstance(content, dict) and content.get("type") in ("input_text", "output_text"):
            return content.get("text")
        return content


class SamplingParams(Part):
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    seed: int | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None


class _Asked(EndpointPart, _Grader):
    input: Annotated[list[Message], Field(min_length=1)]
    sampling_params: SamplingParams | None = None
    """OpenAI's; what is set here goes before `temperature` and `max_tokens`."""

    @model_validator(mode="after")
    def _somewhere(self) -> _Asked:
        if not self.model:
            raise ValueError("a `model` is asked: give its name at the endpoint")
        return self

    def body(self) -> dict[str, Any]:
        own = self.sampling_params.model_dump(exclude_none=True) if self.sampling_params else {}
        if "max_completions_tokens" in own:
            own["max_tokens"] = own.pop("max_completions_tokens")
        return super().body() | {key: value for key, value in own.items() if self.extra.get(key, value) is not None}


class ScoreModelPart(_Asked):
    type: Literal["score_model"] = "score_model"
    range: tuple[float, float] = (0.0, 1.0)
    """The lowest score and the highest; what is beyond counts as these."""

    @field_validator("range")
    @classmethod
    def _rising(cls, range: tuple[float, float]) -> tuple[float, float]:
        if range[0] >= range[1]:
            raise ValueError(f"goes from the lowest score to a higher one; found {list(range)}")
        return range


class LabelModelPart(_Asked):
    type: Literal["label_model"] = "label_model"
    labels: Annotated[list[str], Field(min_length=1)]
    passing_labels: Annotated[list[str], Field(min_length=1)]
    """Those that score 1."""

    @model_validator(mode="after")
    def _among(self) -> LabelModelPart:
        other = [label for label in self.passing_labels if label not in self.labels]
        if other:
            raise ValueError(f"passing_labels are some of the labels; {other[0]!r} is none")
        return self


class NumberPart(_Compared):
    type: Literal["number"] = "number"
    """1 where the last number of the answer is the reference's last."""
    relative_tolerance: Annotated[float, Field(ge=0)] = 1e-4
    absolute_tolerance: Annotated[float, Field(ge=0)] = 1e-9


class JSONSchemaPart(_Grader):
    type: Literal["json_schema"] = "json_schema"
    """1 where the answer is JSON that fits."""
    input: Text = ANSWER
    json_schema: dict[str, Any] | Text = "{{item.schema}}"
    """The JSON Schema, or a template that gives its text."""


class LengthPart(_Grader):
    type: Literal["length"] = "length"
    """1 from `min` to `max`, and less by `slope` with each unit beyond, down to 0."""
    input: Text = ANSWER
    unit: Literal["characters", "words", "tokens"] = "words"
    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int, Field(ge=0)] | None = None
    slope: Positive = 0.1
    tokenizer: str = ""
    """Of tokens: a folder with tokenizer.json."""

    @model_validator(mode="after")
    def _band(self) -> LengthPart:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if not self.min and self.max is None:
            raise ValueError("a band has a `min`, a `max` or both")
        if (self.unit == "tokens") != bool(self.tokenizer):
            raise ValueError("tokens need a `tokenizer`, a folder, and no other unit has one")
        return self


class FunctionPart(_Grader):
    type: Literal["function"] = "function"
    function: Annotated[str, Field(pattern=r".\.py:\w+$")]
    """`FILE.py:FUNCTION`, called in this process as `function(completions, **columns)`: a number a row, or None."""
    timeout: Positive = 60.0
    """Seconds for all rows of a call."""


class RewardModelPart(_Grader):
    type: Literal["reward_model"] = "reward_model"
    model: str
    """A folder."""
    prompt: Text = "{{item.prompt}}"
    input: Text = ANSWER


OnePart = (
    StringCheckPart
    | TextSimilarityPart
    | PythonPart
    | ScoreModelPart
    | LabelModelPart
    | NumberPart
    | JSONSchemaPart
    | LengthPart
    | CodePart
    | FunctionPart
    | RewardModelPart
)
"""Each grader but one of several."""
Single = Annotated[OnePart, Field(discriminator="type")]


class MultiPart(_Grader):
    type: Literal["multi"] = "multi"
    graders: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], Single], Field(min_length=1)]
    """By the names that `calculate_output` uses; none of them is a multi itself."""
    calculate_output: str
    """Arithmetic over these names: + - * / ^, min, max, abs, floor, ceil, exp, sqrt, log."""

    @model_validator(mode="after")
    def _calculable(self) -> MultiPart:
        try:
            Formula(self.calculate_output, self.graders)
        except ValueError as error:
            raise ValueError(f"calculate_output: {error}") from None
        return self


def _from_file(given: Any) -> Any:
    """`grader: FILE.yaml` (or .json) stands for what is in the file."""
    return _read(Path(given)) if isinstance(given, str) else given


GraderPart = Annotated[OnePart | MultiPart, Field(discriminator="type"), BeforeValidator(_from_file)]
GRADERS: dict[str, type[Part]] = {
    part.model_fields["type"].default: part for part in parts_in(GraderPart) if issubclass(part, Part)
}
"""By `type`."""


def load_grader(path: str | Path) -> GraderPart:
    """The grader of a YAML or JSON file. Raises RecipeError with its place."""
    tree = _read(Path(path))
    kind = tree.get("type")
    if kind not in GRADERS:
        found = f"no grader {kind!r}.{did_you_mean(str(kind), GRADERS)}" if kind else "no `type`"
        raise RecipeError(found, where=str(path), do=f"graders are {', '.join(GRADERS)}")
    part: GraderPart = check_part(GRADERS[kind], tree, str(path))  # type: ignore[assignment]
    return part


def _read(path: Path) -> dict[str, Any]:
    from whet.recipe.load import read_yaml  # which reads whole recipes, and so imports the parts

    if not path.exists():
        raise RecipeError("no such file", where=str(path), do="name a grader's YAML or JSON file")
    return read_yaml(path)
