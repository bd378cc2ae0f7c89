"""What `import whet` gives, in whatever order it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "first",
    ["", "import whet.train.run", "from whet.train.run import resume", "whet.load", "whet.LoRA"],
)
def test_a_room_of_the_same_name_hides_no_function(first: str) -> None:
    code = f"import whet\n{first}\nassert callable(whet.train)\nimport whet.train.run as run\n"
    code += "try: whet.train('whet-tiny', 'nowhere.jsonl')\nexcept whet.errors.RowError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "nowhere.jsonl" in done.stdout, done.stderr
