"""What `import whet` gives, in whatever order it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import whet
from whet.errors import RecipeError
from whet.recipe import Recipe


@pytest.mark.parametrize(
    "first",
    ["", "import whet.train.run", "from whet.train.run import resume", "whet.load", "whet.LoRA"],
)
def test_a_room_of_the_same_name_hides_no_function(first: str) -> None:
    code = f"import whet\n{first}\nassert callable(whet.train)\nimport whet.train.run as run\n"
    code += "try: whet.train('whet-tiny', 'nowhere.jsonl')\nexcept whet.errors.RowError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "nowhere.jsonl" in done.stdout, done.stderr


def test_a_wrong_setting_in_python_is_said_as_in_a_recipe() -> None:
    with pytest.raises(
        RecipeError, match=r"^LoRA: `r`: must be greater than or equal to 1; found 0\n  -> `whet recipe"
    ):
        whet.LoRA(r=0)
    with pytest.raises(RecipeError, match=r"^Bottleneck: unknown key `reduction`\. Did you mean 'reduction_factor'"):
        whet.Bottleneck(reduction=8)  # type: ignore[call-arg]
    with pytest.raises(RecipeError, match=r"^Recipe: `method.r`: must be"):  # a part within keeps its place
        Recipe(data=["my.jsonl"], method={"kind": "lora", "r": 0})  # type: ignore[arg-type,list-item]
    part = whet.LoRA()
    with pytest.raises(RecipeError, match=r"^LoRA: `r`: must be"):
        part.r = -1
    with pytest.raises(RecipeError, match=r"^LoRA: unknown key `rang`"):
        part.rang = 4  # type: ignore[attr-defined]
    assert part == whet.LoRA()
