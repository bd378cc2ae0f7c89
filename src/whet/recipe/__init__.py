"""The recipe: everything that decides a run, as one typed tree. YAML first, then `a.b=value` from the command line.

No torch here: `whet --help`, `--dry-run` and `whet recipe schema` answer at once. Names are Hugging Face's where it has
one. Every field has a default but `data`.

    tree.py     the recipe and its parts          methods.py   the part `method`, a class a kind
    objectives.py  the part `objective`, a class a kind
    load.py     from YAML and words to a recipe   schema.py    every key, for people to read
    part.py     the parent of all parts           faults.py    what is said of a wrong setting
    evaluate.py the part `evaluate`               endpoint.py  a model behind an endpoint
    graders.py  graders, a class a kind           template.py  {{item.NAME}}   formula.py  calculate_output
"""

from __future__ import annotations

from whet.recipe.endpoint import EndpointPart
from whet.recipe.evaluate import EvaluatePart, JudgePart
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
    load_grader,
)
from whet.recipe.load import check_recipe, load_recipe, recipe_yaml
from whet.recipe.methods import (
    AdaLoRAPart,
    AutoPart,
    BOFTPart,
    BottleneckPart,
    FullPart,
    IA3Part,
    InContextPart,
    LNTuningPart,
    LoRAPart,
    MethodPart,
    OFTPart,
    PrefixPart,
    PromptPart,
    PTuningPart,
    TrainableTokensPart,
    VeRAPart,
)
from whet.recipe.objectives import (
    CPOPart,
    DPOPart,
    GRPOPart,
    KTOPart,
    ObjectivePart,
    ORPOPart,
    PolicyPart,
    PPOPart,
    ReinforcePart,
    RewardPart,
    RLOOPart,
    SFTPart,
    SimPOPart,
)
from whet.recipe.part import Part
from whet.recipe.schema import Setting, settings
from whet.recipe.tree import (
    DataPart,
    EnginePart,
    ModelPart,
    PreflightPart,
    Recipe,
    TrainPart,
)

__all__ = [
    "AdaLoRAPart",
    "AutoPart",
    "BOFTPart",
    "BottleneckPart",
    "CPOPart",
    "CodePart",
    "DPOPart",
    "DataPart",
    "EndpointPart",
    "EnginePart",
    "EvaluatePart",
    "FullPart",
    "FunctionPart",
    "GRPOPart",
    "GraderPart",
    "IA3Part",
    "InContextPart",
    "JSONSchemaPart",
    "JudgePart",
    "KTOPart",
    "LNTuningPart",
    "LabelModelPart",
    "LengthPart",
    "LoRAPart",
    "MethodPart",
    "ModelPart",
    "MultiPart",
    "NumberPart",
    "OFTPart",
    "ORPOPart",
    "ObjectivePart",
    "PPOPart",
    "PTuningPart",
    "Part",
    "PolicyPart",
    "PrefixPart",
    "PreflightPart",
    "PromptPart",
    "PythonPart",
    "RLOOPart",
    "Recipe",
    "ReinforcePart",
    "RewardModelPart",
    "RewardPart",
    "SFTPart",
    "ScoreModelPart",
    "Setting",
    "SimPOPart",
    "StringCheckPart",
    "TextSimilarityPart",
    "TrainPart",
    "TrainableTokensPart",
    "VeRAPart",
    "check_recipe",
    "load_grader",
    "load_recipe",
    "recipe_yaml",
    "settings",
]
