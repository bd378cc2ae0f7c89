"""Servers over real HTTP, in a thread of the test's process: a random model, two adapters on it, and one that takes no
trie. Answered by the unmodified `openai` client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
import uvicorn

from whet.listen import address, bound
from whet.models.saved import open_run
from whet.recipe import check_recipe, recipe_yaml
from whet.rows import Message
from whet.serve.app import make_app
from whet.serve.guard import Key
from whet.serve.opened import open_shelf
from whet.tokens.template import Renderer

POSITIONS = 2048


class Server:
    def __init__(self, sources: dict[str, str], key: str | None = None, **settings: Any):
        self.shelf = open_shelf(sources, dtype=torch.float32, **settings)
        listening = bound("127.0.0.1", 0)
        self.url = address("127.0.0.1", listening)
        app = make_app(self.shelf, Key(key) if key else None)
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.thread.start()
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or "none", max_retries=0, timeout=120)

    @property
    def flight(self) -> int:
        return sum(scheduler.flight for scheduler in self.shelf.schedulers)

    @property
    def waiting(self) -> int:
        return sum(scheduler.waiting for scheduler in self.shelf.schedulers)

    def until(self, holds: Callable[[Server], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not holds(self):
            assert time.monotonic() < end, "it never came to hold"
            time.sleep(0.005)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join()
        self.shelf.close()


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: Any, tiny_model: Callable[..., Any], tiny_tokenizer: Callable[[], Any]) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "tiny"
    tiny_model(max_position_embeddings=POSITIONS).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def runs(base_folder: Path, tiny_tokenizer: Callable[[], Any]) -> dict[str, str]:
    """Two LoRA runs on the base, by name."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = {}
    for seed, name in enumerate(("law", "med")):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        run = base_folder.parent / name
        get_peft_model(AutoModelForCausalLM.from_pretrained(base_folder), config).save_pretrained(run / "adapter")
        tiny_tokenizer().save_pretrained(run / "adapter")
        recipe = check_recipe({"model": {"name": str(base_folder)}, "data": "train.jsonl"}, "test")
        (run / "recipe.yaml").write_text(recipe_yaml(recipe))
        made[name] = str(run)
    return made


@pytest.fixture(scope="session")
def falcon_folder(base_folder: Path, make_model: Callable[..., Any], tiny_tokenizer: Callable[[], Any]) -> Path:
    """A model whose attention takes no trie."""
    folder = base_folder.parent / "falcon"
    make_model("falcon", vocab_size=288, max_position_embeddings=POSITIONS).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sources(base_folder: Path, runs: dict[str, str], falcon_folder: Path) -> dict[str, str]:
    return {"tiny": str(base_folder), **runs, "falcon": str(falcon_folder)}


@pytest.fixture(scope="session")
def server(sources: dict[str, str]) -> Iterator[Server]:
    made = Server(sources)
    yield made
    made.stop()


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    """make_server(sources, key=None, **settings): a server of its own."""
    made: list[Server] = []

    def start(sources: dict[str, str], key: str | None = None, **settings: Any) -> Server:
        made.append(Server(sources, key, **settings))
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def serve(sources: dict[str, str], make_server: Callable[..., Server]) -> Callable[..., Server]:
    """serve(key=None, **settings): a server of its own over `tiny`."""
    return lambda key=None, **settings: make_server({"tiny": sources["tiny"]}, key, **settings)


class Alone:
    """A model opened by itself, as `whet generate` opens it: what the server's answers are compared with."""

    def __init__(self, source: str):
        self.loaded = open_run(source, dtype=torch.float32)
        self.model, self.tokenizer = self.loaded.model.eval(), self.loaded.tokenizer
        self.renderer = Renderer(self.tokenizer)

    def prompt(self, messages: list[Message]) -> list[int]:
        return self.renderer.prompt(messages)

    def answers(self, messages: list[Message], count: int = 1, **settings: Any) -> list[Any]:
        from whet.models.generate import sample

        prompts = [self.prompt(messages)] * count
        return sample(self.model, self.tokenizer, prompts, stop_ids=self.renderer.stop_ids, **settings)


@pytest.fixture(scope="session")
def alone(sources: dict[str, str]) -> dict[str, Alone]:
    return {name: Alone(source) for name, source in sources.items()}
