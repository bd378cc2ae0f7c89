"""How training begins: rows read and rendered, the model loaded and probed with the method on it, the engine ready.

A run begins so, and so does each trial of a pilot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from whet.data import read, split
from whet.errors import ModelError, RecipeError
from whet.methods import METHODS, Given
from whet.models.language_model import LanguageModel, checkpoint_layers
from whet.models.load import Loaded, frozen_dtype, load, load_config, load_tokenizer
from whet.models.probe import probe
from whet.models.virtual import is_prefix
from whet.objectives import OBJECTIVES
from whet.recipe import DataPart, PolicyPart, Recipe
from whet.rows import Example, with_companions
from whet.tokens.template import Renderer
from whet.train.checkpoint import model_fingerprint
from whet.train.engine import Engine
from whet.train.preflight import Prepared, prepare
from whet.train.schedule import Schedule


@dataclass(frozen=True)
class Rows:
    """What a run learns from and is measured on."""

    prepared: Prepared
    train: list[Example]
    held_out: list[Example]
    renderer: Renderer
    max_length: int


def open_rows(recipe: Recipe, loaded: Loaded | None = None) -> Rows:
    """The rows as the recipe's model (or the one given) takes them; `whet.train.preflight.check` judges them."""
    tokenizer = loaded.tokenizer if loaded else load_tokenizer(recipe.model)
    config = loaded.model.config if loaded else load_config(recipe.model)
    return rows_of(recipe, tokenizer, max_length_of(recipe, config))


def rows_of(recipe: Recipe, tokenizer: Any, max_length: int) -> Rows:
    """Read, split and render the recipe's rows; nothing is checked against the threshold yet. Raises RecipeError for a
    prompt run's recipe."""
    if recipe.method.kind == "in_context":
        do = "whet prompt MODEL DATA makes such runs"
        raise RecipeError("nothing is trained in context", where="method.kind", do=do)
    objective = recipe.objective.kind
    train = read(recipe.data, objective, recipe.train.seed)
    if isinstance(recipe.validation, str):
        held_out = read([DataPart(path=recipe.validation)], objective, recipe.train.seed)
    else:
        train, held_out = split(train, recipe.validation, recipe.train.seed)
    renderer = Renderer(tokenizer)
    return Rows(prepare(recipe, renderer, train, held_out, max_length), train, held_out, renderer, max_length)


def max_length_of(recipe: Recipe, config: Any) -> int:
    """Tokens a row may have: the recipe's, or the model's own limit (less the method's virtual tokens) where that is
    less."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    room = limit - getattr(recipe.method, "num_virtual_tokens", 0) if limit else recipe.train.max_length
    if room < 2:
        raise RecipeError(
            f"the virtual tokens leave no room in a model that takes {limit} tokens",
            where="method.num_virtual_tokens",
            do="lower it",
        )
    return min(recipe.train.max_length, room)


@dataclass(frozen=True)
class Started:
    """An engine that has taken no step. `fingerprint` and `parameters` are of the model before the method was put on;
    `notes` is what should be told though it is no fault."""

    engine: Engine
    fingerprint: str
    parameters: int
    notes: list[str]


def start(
    recipe: Recipe,
    rows: Rows,
    accelerator: Accelerator,
    seed: int,
    loaded: Loaded | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Started:
    """Load the recipe's model (or take the one given), put the method on it from the random numbers of `seed`, find its
    fastest path. Raises RecipeError for settings that do not go together, ModelError as `load` and `probe` do."""
    method, tokenizer = METHODS[recipe.method.kind], rows.renderer.tokenizer
    if recipe.model.quantize and not method.facts.quantizes:
        raise RecipeError(
            f"method {recipe.method.kind} cannot sit on a quantized base",
            where="model.quantize",
            do=f"leave it out, or take one of {', '.join(k for k, m in METHODS.items() if m.facts.quantizes)}",
        )
    weights = frozen_dtype(recipe.model, accelerator.device)
    if isinstance(recipe.objective, PolicyPart) and accelerator.num_processes > 1:
        raise RecipeError(
            "answers are drawn by one process", where="objective.kind", do="start whet once, without ranks"
        )
    rewards = OBJECTIVES[recipe.objective.kind].reads == "rewards"
    if rewards and hasattr(recipe.method, "num_virtual_tokens"):
        raise RecipeError(
            f"method {recipe.method.kind} puts tokens before the text, and trains no head for rewards",
            where="method.kind",
            do="take method=lora or method=full",
        )
    if loaded is None or rewards:
        set_seed(seed)
        loaded = load(recipe.model, torch.float32 if method.needs_float32 else weights, accelerator.device, rewards)
    _check_ids(loaded, rows.prepared)
    set_seed(seed)
    fingerprint = model_fingerprint(loaded.model)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    new = tuple(tokenizer.convert_tokens_to_ids(recipe.model.new_tokens))
    given = Given(tokenizer, _updates(recipe, len(rows.prepared.train)), new)
    adapted = method.apply(loaded.model, recipe.method, given)
    probed = probe(adapted, len(tokenizer))
    if recipe.train.gradient_checkpointing:
        if is_prefix(adapted) and probed.path != "trie":
            # there the prefix is a cache, and transformers drops caches from layers that are computed again
            raise RecipeError(
                f"a prefix cannot be checkpointed on padded batches, which this model needs: {probed.reason}",
                where="train.gradient_checkpointing",
                do="leave it out, or take method=lora",
            )
        checkpoint_layers(adapted)
    compute = weights if recipe.train.dtype == "auto" else getattr(torch, recipe.train.dtype)
    language_model = LanguageModel(adapted, probed.path)
    engine = Engine(language_model, recipe.objective, recipe.train, accelerator, compute, warn, recipe.method)
    padded = [f"padded batches: {probed.reason}"] if probed.reason else []
    return Started(engine, fingerprint, parameters, [*loaded.notes, *padded])


def _updates(recipe: Recipe, rows: int) -> int:
    """Of the optimiser: where answers are drawn, a step has several."""
    steps, part = Schedule.of(recipe, rows).total_steps, recipe.objective
    return steps * part.num_iterations * part.minibatches if isinstance(part, PolicyPart) else steps


def _check_ids(loaded: Loaded, prepared: Prepared) -> None:
    """A few tokenizers know tokens (of images, say) that their text model has no embedding for."""
    size = loaded.model.get_input_embeddings().num_embeddings
    for row in with_companions([*prepared.train, *prepared.validation])[0]:
        if len(row) and int(row.ids.max()) >= size:
            token = loaded.tokenizer.convert_ids_to_tokens(int(row.ids.max()))
            raise ModelError(
                f"the row has the token {token!r}, and the model no embedding for it",
                where=row.place,
                do="take the token out of the row",
            )
