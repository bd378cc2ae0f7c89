"""Loading: what comes out is what was saved, and what cannot be loaded says why and what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from whet.errors import ModelError
from whet.models.load import find, frozen_dtype, load, load_config, load_tokenizer
from whet.recipe import ModelPart

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refused(name: str, **settings: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(ModelPart(name=name, **settings))
    assert caught.value.do
    return caught.value


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_loaded_model_is_the_saved_one(
    model_folder: Path, tiny_model: Callable[..., Any], tiny_tokenizer: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = load(ModelPart(name=str(model_folder), dtype="float32"))
    ids_1L = torch.tensor([tiny_tokenizer()("the cat sat").input_ids])
    assert torch.equal(loaded.model(ids_1L).logits, tiny_model()(ids_1L).logits)
    assert loaded.tokenizer("the cat sat").input_ids == ids_1L[0].tolist()
    assert loaded.tokenizer.chat_template == tiny_tokenizer().chat_template
    assert (loaded.name, loaded.folder, loaded.notes) == (str(model_folder), model_folder, [])
    assert not loaded.model.training
    assert capfd.readouterr() == ("", ""), "no bars, no reports"
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_weights_come_in_the_type_asked_for(model_folder: Path) -> None:
    name = str(model_folder)
    assert load(ModelPart(name=name, dtype="bfloat16")).model.dtype == torch.bfloat16
    assert load(ModelPart(name=name, dtype="bfloat16"), torch.float32).model.dtype == torch.float32
    assert load(name).model.dtype == frozen_dtype(ModelPart(), "cpu")


@pytest.mark.parametrize(("avx", "amx", "dtype"), [(0, 0, "float32"), (1, 0, "bfloat16"), (0, 1, "bfloat16")])
def test_auto_is_bfloat16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, avx: int, amx: int, dtype: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    assert frozen_dtype(ModelPart(), "cpu") == getattr(torch, dtype)
    assert frozen_dtype(ModelPart(dtype="float32"), "cpu") == torch.float32
    assert frozen_dtype(ModelPart(), "mps") == torch.float32


def test_config_and_tokenizer_need_no_weights(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    part = ModelPart(name=str(model_folder))
    assert load_config(part).hidden_size == 32
    assert len(load_tokenizer(part)) == 288


def test_a_missing_folder_names_the_nearest(model_folder: Path) -> None:
    error = refused(str(model_folder.parent / "tinny"))
    assert error.what == f"no such model folder. Did you mean {str(model_folder)!r}?"
    assert refused(str(model_folder.parent / "a" / "b")).what == "no such model folder."
    assert refused("./my model").what == "no such model folder."
    error = refused(str(model_folder / "config.json"))
    assert (error.what, error.do) == ("a file, not a model's folder", f"give its folder: model={model_folder}")


def test_a_name_that_is_not_in_the_cache_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = refused("someone/model")
    assert error.where == "someone/model"
    assert "HF_HUB_OFFLINE is set" in error.what
    assert "unset HF_HUB_OFFLINE" in error.do
    assert "hf download someone/model --local-dir FOLDER" in error.do
    assert "Did you mean 'whet-tiny'?" in refused("whet-tinny").what


def test_a_model_in_the_cache_of_the_hub(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache as huggingface_hub lays it out: refs/REVISION holds a commit, snapshots/COMMIT links to blobs/."""
    cached, commit = tmp_path / "hub" / "models--someone--model", COMMIT
    for name in ("refs", "blobs", f"snapshots/{commit}"):
        (cached / name).mkdir(parents=True)
    (cached / "refs" / "v1").write_text(commit)
    for file in model_folder.iterdir():
        file.rename(cached / "blobs" / file.name)
        (cached / "snapshots" / commit / file.name).symlink_to(f"../../blobs/{file.name}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    part = ModelPart(name="someone/model", revision="v1")
    loaded = load(part)
    assert loaded.folder == cached / "snapshots" / commit
    assert loaded.model.name_or_path == loaded.model.config.name_or_path == loaded.name == "someone/model"
    assert find(part, weights=False) == loaded.folder
    assert "neither a folder here nor (whole) in the cache" in refused("someone/model", revision="v2").what
    edit(cached / "blobs" / "config.json", _attn_implementation_internal="evil/kernels")
    assert "`_attn_implementation_internal`" in refused("someone/model", revision="v1").what


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as huggingface_hub asks for: a revision's commit, its files, and each file."""

    folder: Path
    fetched: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        place = self.path.split("?")[0]
        file = self.folder / place.rsplit("/", 1)[1]
        if place.startswith("/api/models/someone/model/revision/"):
            self._reply(json.dumps({"id": "someone/model", "sha": COMMIT}).encode())
        elif place.startswith(f"/api/models/someone/model/tree/{COMMIT}"):
            tree = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in self.folder.iterdir()
            ]
            self._reply(json.dumps(tree).encode())
        elif place.startswith(f"/someone/model/resolve/{COMMIT}/") and file.is_file():
            if self.command == "GET":
                self.fetched.append(file.name)
            self._reply(file.read_bytes(), {"ETag": f'"{file.name}"', "X-Repo-Commit": COMMIT})
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _reply(self, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on this machine that has one model, and an empty cache."""
    Hub.folder, Hub.fetched = model_folder, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    yield Hub
    server.shutdown()
    server.server_close()


def test_from_the_hub_come_the_files_that_are_read_and_no_others(hub: type[Hub]) -> None:
    (hub.folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (hub.folder / "modeling.py").write_text("print('hello')")
    part = ModelPart(name="someone/model")
    assert len(load_tokenizer(part)) == 288
    assert "model.safetensors" not in hub.fetched
    assert load(part).folder.name == COMMIT
    assert sorted(hub.fetched) == sorted(
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
         "chat_template.jinja"]
    )  # fmt: skip


def test_weights_of_an_unsafe_model_are_not_even_fetched(hub: type[Hub]) -> None:
    edit(hub.folder / "config.json", _attn_implementation_internal="evil/kernels")
    assert "`_attn_implementation_internal`" in refused("someone/model").what
    assert "model.safetensors" not in hub.fetched


def test_a_name_that_the_hub_does_not_know(hub: type[Hub]) -> None:
    error = refused("someone/other")
    assert error.what == "no folder here, and no model on the hub."
    assert "hf auth login" in error.do


def test_the_small_model_is_in_the_package() -> None:
    folder = find(ModelPart())
    assert folder.parts[-3:] == ("whet", "models", "whet-tiny")
    if not folder.is_dir():
        pytest.skip("whet-tiny has not been made yet")
    assert load("whet-tiny").model.num_parameters() > 1_000_000


def test_weights_that_are_missing_do_not_start_from_random_numbers(model_folder: Path) -> None:
    path = model_folder / "model.safetensors"
    weights = load_file(path)
    for name in [name for name in weights if "q_proj" in name]:
        del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    error = refused(str(model_folder))
    assert error.where == str(model_folder)
    assert "the weights lack model.layers.0.self_attn.q_proj.weight (and 1 more)" in error.what


def test_weights_of_another_size(model_folder: Path) -> None:
    edit(model_folder / "config.json", intermediate_size=64)
    assert (
        "model.layers.0.mlp.down_proj.weight is [32, 48] in the weights and [32, 64] by the config (and 5 more)"
        in refused(str(model_folder)).what
    )


def test_weights_without_a_place_are_noted(model_folder: Path) -> None:
    tensors = load_file(model_folder / "model.safetensors")
    save_file({**tensors, "vision.weight": torch.zeros(2)}, model_folder / "model.safetensors", {"format": "pt"})
    (note,) = load(str(model_folder)).notes
    assert "1 tensors of the weights have no place in the model, vision.weight first" in note


def test_layers_that_the_config_does_not_count_are_refused(model_folder: Path) -> None:
    edit(model_folder / "config.json", num_hidden_layers=1)
    error = refused(str(model_folder))
    assert "the weights have model.layers.1.input_layernorm.weight, and the config 1 layers (and 8 more)" in error.what


def test_tied_embeddings_need_no_head(model_folder: Path, tiny_model: Callable[..., Any]) -> None:
    tied = tiny_model(tie_word_embeddings=True)
    tied.save_pretrained(model_folder)
    assert "lm_head.weight" not in load_file(model_folder / "model.safetensors")
    loaded = load(ModelPart(name=str(model_folder), dtype="float32"))
    assert loaded.notes == []
    assert torch.equal(loaded.model.lm_head.weight, tied.model.embed_tokens.weight)


def test_a_config_that_transformers_cannot_use(model_folder: Path) -> None:
    edit(model_folder / "config.json", hidden_size="many")
    error = refused(str(model_folder))
    assert error.where == str(model_folder / "config.json")
    assert "hidden_size" in error.what
    edit(model_folder / "config.json", hidden_size=33)
    assert refused(str(model_folder)).where


@pytest.mark.parametrize("text", [None, "{}", "not JSON"])
def test_no_tokenizer(model_folder: Path, text: str | None) -> None:
    (model_folder / "tokenizer.json").unlink()
    if text:
        (model_folder / "tokenizer.json").write_text(text)
    error = refused(str(model_folder))
    assert error.where == str(model_folder)
    assert "no tokenizer that can be read" in error.what
    assert "copy tokenizer.json" in error.do


def test_a_tokenizer_of_another_model(model_folder: Path, tiny_model: Callable[..., Any]) -> None:
    tiny_model(vocab_size=280).save_pretrained(model_folder)
    error = refused(str(model_folder))
    assert error.where == str(model_folder)
    assert "ids up to 287, the model embeddings for 280 tokens" in error.what


def test_a_transformers_with_known_holes_is_refused(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whet.models.load.transformers.__version__", "5.4.1")
    error = refused(str(model_folder))
    assert "transformers 5.4.1" in error.what
    assert "transformers>=5.5" in error.do
