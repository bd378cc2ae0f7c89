"""`whet serve` as a process of its own, over the model in the package; and what it refuses to serve."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from whet.cli import app
from whet.errors import MissingExtra, RecipeError, RunError
from whet.listen import bound
from whet.models.generate import sample
from whet.models.load import load
from whet.serve.opened import open_shelf
from whet.serve.serve import named, serve
from whet.tokens.template import Renderer


def test_from_the_command_to_ctrl_c() -> None:
    command = [sys.executable, "-m", "whet", "serve", "whet-tiny", "--port", "0", "--dtype", "float32"]
    environment = {**os.environ, "WHET_API_KEY": "a-key"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    while "print(" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    assert "whet-tiny" in said
    assert "a-key" not in said
    url = re.search(r"http://127\.0\.0\.1:\d+/v1", said)
    assert url
    messages: list[Any] = [{"role": "user", "content": "What is a lease?"}]
    with openai.OpenAI(base_url=url[0], api_key="a-key", max_retries=0) as client:
        found = client.chat.completions.create(
            model="whet-tiny", messages=messages, temperature=0, max_completion_tokens=20
        )  # fmt: skip
    loaded = load("whet-tiny")
    renderer = Renderer(loaded.tokenizer)
    prompt = renderer.prompt(messages)
    [expected] = sample(
        loaded.model.float(), loaded.tokenizer, [prompt], stop_ids=renderer.stop_ids, max_new_tokens=20
    )  # fmt: skip
    assert found.choices[0].message.content == expected.text
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "Traceback" not in rest


def test_names(tmp_path: Path) -> None:
    (tmp_path / "runs" / "law").mkdir(parents=True)
    law = str(tmp_path / "runs" / "law")
    assert named([law + "/", "Qwen/Qwen3-0.6B", "whet-tiny"], ["b=runs/b"]) == {
        "law": law + "/", "Qwen/Qwen3-0.6B": "Qwen/Qwen3-0.6B", "whet-tiny": "whet-tiny", "b": "runs/b",
    }  # fmt: skip
    with pytest.raises(RecipeError, match="two of the models have the name 'law'"):
        named([law], [f"law={law}"])
    with pytest.raises(RecipeError, match="--name: no NAME=RUN"):
        named([], ["law"])
    with pytest.raises(RecipeError, match="nothing to serve"):
        named([])


def test_adapters_and_their_base_are_one_model_in_memory(sources: dict[str, str]) -> None:
    shelf = open_shelf(sources)
    try:
        models = {name: id(served.side.model) for name, served in shelf.by_name.items()}
        assert list(models) == ["tiny", "law", "med", "falcon"]
        assert models["tiny"] == models["law"] == models["med"] != models["falcon"]
        assert len(shelf.schedulers) == 2
    finally:
        shelf.close()


def test_others_are_let_in_by_a_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHET_API_KEY", raising=False)
    done = CliRunner().invoke(app, ["serve", "whet-tiny", "--host", "0.0.0.0"])
    assert isinstance(done.exception, RecipeError)
    assert "WHET_API_KEY" in str(done.exception)


def test_a_port_that_is_taken_and_a_model_that_is_not_there() -> None:
    with bound("127.0.0.1", 0) as taken, pytest.raises(RunError, match="cannot listen"):
        serve({"tiny": "whet-tiny"}, port=taken.getsockname()[1])
    with pytest.raises(Exception, match="no such model folder"):
        serve({"a": "./not/there"}, port=0)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match=r"whet\[serve\]"):
        serve({"tiny": "whet-tiny"}, port=0)


def test_virtual_tokens_are_served_too(
    tmp_path: Path, base_folder: Path, tiny_tokenizer: Callable[[], Any], make_server: Callable[..., Any]
) -> None:
    """A prefix run, asked again and again: its root is forgotten in between, and made anew."""
    import torch
    from transformers import AutoModelForCausalLM

    from whet.methods import METHODS, Given
    from whet.models.saved import open_run
    from whet.recipe import check_recipe, recipe_yaml

    method = {"kind": "prefix", "num_virtual_tokens": 3}
    recipe = check_recipe(
        {"model": {"name": str(base_folder), "dtype": "float32"}, "data": "a.jsonl", "method": method}, "test"
    )
    model = METHODS["prefix"].apply(AutoModelForCausalLM.from_pretrained(base_folder), recipe.method, Given())
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.normal_(std=0.5)
    METHODS["prefix"].save(model, tmp_path / "pre" / "adapter")
    tiny_tokenizer().save_pretrained(tmp_path / "pre" / "adapter")
    (tmp_path / "pre" / "recipe.yaml").write_text(recipe_yaml(recipe))
    loaded = open_run(tmp_path / "pre", dtype=torch.float32)
    renderer = Renderer(loaded.tokenizer)
    server = make_server({"pre": str(tmp_path / "pre"), "base": str(base_folder)})
    for text in ("home", "the dog"):
        messages: list[Any] = [{"role": "user", "content": text}]
        [expected] = sample(
            loaded.model, loaded.tokenizer, [renderer.prompt(messages)], stop_ids=renderer.stop_ids, max_new_tokens=20
        )
        said = {
            name: server.client.chat.completions.create(model=name, messages=messages, temperature=0, max_tokens=20)
            for name in ("pre", "base")
        }
        assert said["pre"].choices[0].message.content == expected.text
        assert said["base"].choices[0].message.content != expected.text
