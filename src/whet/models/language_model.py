"""LanguageModel: a pack in, log-probabilities out. Everything above it sees only these, by row."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from whet.models.attention import NAME, Trie, attention_of, kernel_for
from whet.models.head import Scaling, head_logits, head_logps
from whet.models.virtual import embeddings, is_prefix, keys_and_values, under_root, virtual_tokens
from whet.tokens.pack import Pack

Path = Literal["trie", "padded", "logits"]


def checkpoint_layers(model: Any, **settings: Any) -> None:
    """Compute layers again in backward instead of keeping what they make. `settings` are of torch's `checkpoint`."""
    # transformers 5.23 has a new name for it, and warns of the only one that 5.5 knows.
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **settings})


class LanguageModel(nn.Module):
    """A transformers causal model (with or without peft's layers inside) that scores packs.

    `path` says how: `trie`, the pack as it lies, attention by segments; `padded`, for models whose attention cannot be
    told about segments: rows side by side in a rectangle; `logits`, the same through the model's own head and all of
    its logits, for models whose head is more than is known here. All give the same numbers.
    """

    def __init__(self, model: Any, path: Path = "trie"):
        super().__init__()
        self.model = model
        self.path: Path = path
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.config = base.config.get_text_config()
        self.scaling = Scaling.of(self.config)
        # In a tuple, so that torch does not list these as children a second time.
        self._inner = (base, _decoder(base), base.get_output_embeddings())
        self.value_head: nn.Linear | None = None

    @property
    def rewards(self) -> bool:
        """Whether the model gives rewards, not tokens: transformers' sequence classifier with one label."""
        return is_reward_model(self._inner[0])

    def add_value_head(self) -> None:
        """What the rest of an answer will earn, from each hidden state: a linear head that begins at 0, float32."""
        self.value_head = nn.Linear(self.config.hidden_size, 1, device=self.device, dtype=torch.float32)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The model's parameters by its own names, and the value head's."""
        yield from self.model.named_parameters()
        if self.value_head is not None:
            yield from self.value_head.named_parameters("value_head")

    @property
    def shares(self) -> bool:
        """Whether packs may share prefixes."""
        return self.path == "trie"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    def forward(self, pack: Pack) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """log p(target | its row so far) [N] float32; with a value head the values [N] too; of a reward model the
        rewards [N] where each target would be predicted. The model must run under `running()`."""
        if self.path != "logits" or self.rewards:
            return self._read(self._hidden(pack), pack)
        logits_NV, hidden_ND = self._own_logits(pack, hidden=self.value_head is not None)
        logps_N = logits_NV.log_softmax(1).gather(1, pack.target_ids_N[:, None])[:, 0]
        return logps_N if hidden_ND is None else (logps_N, self._values(hidden_ND))

    def logits(self, pack: Pack, targets: int = 128) -> Iterator[torch.Tensor]:
        """All logits [n, V] float32 that the pack's targets are predicted from, so many targets at a time, in order."""
        if self.path == "logits":
            yield from self._own_logits(pack)[0].split(targets)
        else:
            for hidden_nD in self._hidden(pack).split(targets):
                yield head_logits(self._inner[2], hidden_nD, self.scaling)

    def _hidden(self, pack: Pack) -> torch.Tensor:
        """[N, D], what each target is predicted from."""
        if self.path == "trie":
            return self._hidden_of_trie(pack)[pack.target_at_N]
        ids_RL, attention_mask_RL, flat_T = rectangle(pack)
        return self._hidden_of_rectangle(ids_RL, attention_mask_RL).flatten(0, 1)[flat_T][pack.target_at_N]

    def _own_logits(self, pack: Pack, hidden: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[N, V] by the model's own head, which sees to scale and cap, and where asked for the hidden states [N, D]."""
        ids_RL, attention_mask_RL, flat_T = rectangle(pack)
        model = self.model if virtual_tokens(self.model) else self._inner[0]
        out = model(
            input_ids=ids_RL, attention_mask=attention_mask_RL, use_cache=False, output_hidden_states=hidden or None
        )
        own = lambda x_RLD: x_RLD[:, -ids_RL.shape[1] :].flatten(0, 1)[flat_T][pack.target_at_N].float()  # noqa: E731
        return own(out.logits) / self.scaling.temperature, own(out.hidden_states[-1]) if hidden else None

    def logps(self, pack: Pack) -> torch.Tensor:
        """`forward` without the values of a value head."""
        found = self(pack)
        return found[0] if isinstance(found, tuple) else found

    def _read(self, hidden_ND: torch.Tensor, pack: Pack) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        if self.rewards:
            return rewards_of(self._inner[0], hidden_ND)
        logps_N = head_logps(self._inner[2], hidden_ND, pack.target_ids_N, self.scaling)
        return logps_N if self.value_head is None else (logps_N, self._values(hidden_ND))

    def _values(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        assert self.value_head is not None, "asked for where there is one"
        with torch.autocast(hidden_ND.device.type, enabled=False):
            return self.value_head(hidden_ND.float())[:, 0]  # type: ignore[no-any-return]

    def _hidden_of_trie(self, pack: Pack) -> torch.Tensor:
        """[T, D]; virtual tokens are the ancestor of every row."""
        base, decoder, _ = self._inner
        kernel, virtual = kernel_for(pack.ids_T.device), virtual_tokens(self.model)
        inputs = {"input_ids": pack.ids_T[None], "position_ids": pack.positions_T[None] + virtual}
        if not virtual:
            trie = Trie(pack.segments, kernel)
        elif is_prefix(self.model):
            trie = Trie(under_root(pack.segments, virtual), kernel, keys_and_values(self.model))
        else:
            trie = Trie(under_root(pack.segments, virtual), kernel)
            words_TD = base.get_input_embeddings()(inputs.pop("input_ids"))
            inputs["inputs_embeds"] = torch.cat([embeddings(self.model).to(words_TD.dtype), words_TD], 1)
            before = torch.arange(virtual, device=pack.ids_T.device)[None]
            inputs["position_ids"] = torch.cat([before, inputs["position_ids"]], 1)
        hidden_TD = decoder(**inputs, trie=trie, use_cache=False).last_hidden_state[0]
        return hidden_TD[-len(pack.ids_T) :]  # type: ignore[no-any-return]

    def _hidden_of_rectangle(self, ids_RL: torch.Tensor, attention_mask_RL: torch.Tensor) -> torch.Tensor:
        """[R, L, D]."""
        base, decoder, _ = self._inner
        virtual, inputs = virtual_tokens(self.model), {"input_ids": ids_RL, "attention_mask": attention_mask_RL}
        if virtual:
            ones = attention_mask_RL.new_ones(len(ids_RL), virtual)
            inputs["attention_mask"] = torch.cat([ones, attention_mask_RL], 1)
        if virtual and is_prefix(self.model):
            inputs["past_key_values"] = self.model.get_prompt(len(ids_RL))
        elif virtual:
            words_RLD = base.get_input_embeddings()(inputs.pop("input_ids"))
            prompts_RPD = embeddings(self.model, len(ids_RL)).to(words_RLD.dtype)
            inputs["inputs_embeds"] = torch.cat([prompts_RPD, words_RLD], 1)
        hidden_RLD = decoder(**inputs, use_cache=False).last_hidden_state
        return hidden_RLD[:, -ids_RL.shape[1] :]  # type: ignore[no-any-return]

    @contextmanager
    def running(self, dtype: torch.dtype = torch.float32) -> Iterator[None]:
        """Around forward *and* backward (checkpointed layers run twice): this path's attention, autocast to `dtype`."""
        with ExitStack() as stack:
            if self.path == "trie":
                stack.enter_context(attention_of(self._inner[0], NAME))
            if dtype != torch.float32:
                stack.enter_context(torch.autocast(self.device.type, dtype))
                if self.model is not self._inner[0]:
                    stack.enter_context(_inputs_as_they_are(self.model))
            yield


def is_reward_model(base: Any) -> bool:
    return base.get_output_embeddings() is None and hasattr(base, "score")


def rewards_of(base: Any, hidden_ND: torch.Tensor) -> torch.Tensor:
    """[N] float32, by the reward model's head."""
    with torch.autocast(hidden_ND.device.type, enabled=False):
        return base.score(hidden_ND.float())[:, 0]  # type: ignore[no-any-return]


@contextmanager
def _inputs_as_they_are(model: Any) -> Iterator[None]:
    """peft would cast each input to its weights' float32, and autocast back again. (Its own context for this stumbles
    over layers of trained tokens, which cast nothing.)"""
    casting = [module for module in model.modules() if getattr(module, "cast_input_dtype_enabled", False)]
    try:
        for module in casting:
            module.cast_input_dtype_enabled = False
        yield
    finally:
        for module in casting:
            module.cast_input_dtype_enabled = True


def rectangle(pack: Pack) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids [R, L], attention_mask [R, L], places [T]) of a pack that shares nothing: its rows side by side, padded at
    the right. `places` tells where each of the pack's tokens lies in the flattened rectangle."""
    if any(segment.parent >= 0 for segment in pack.segments):
        raise ValueError("a pack with shared prefixes has no rectangle; pack its rows with share=False")
    device = pack.ids_T.device
    longest = max(segment.stop - segment.start for segment in pack.segments)
    lengths_R = torch.tensor([segment.stop - segment.start for segment in pack.segments], device=device)
    flat_T = torch.arange(len(lengths_R), device=device).repeat_interleave(lengths_R) * longest + pack.positions_T
    ids = torch.zeros(len(lengths_R) * longest, dtype=torch.int64, device=device)
    mask = torch.zeros_like(ids)
    ids[flat_T], mask[flat_T] = pack.ids_T, 1
    shape = (len(lengths_R), longest)
    return ids.view(shape), mask.view(shape), flat_T


def by_row(logps_N: torch.Tensor, packs: Sequence[Pack]) -> list[torch.Tensor]:
    """The logps of packs laid end to end, as one tensor a row, in the order of the packs' rows."""
    parts: list[torch.Tensor] = []
    start = 0
    for pack in packs:
        counts = torch.bincount(pack.target_row_N, minlength=len(pack.rows)).tolist()
        parts.extend(logps_N[start : start + sum(counts)].split(counts))
        start += sum(counts)
    return parts


def _decoder(base: Any) -> nn.Module:
    """The model without its head."""
    prefix = getattr(base, "base_model_prefix", "")
    decoder = getattr(base, prefix, None) if prefix else None
    return decoder if decoder is not None else base.get_decoder()  # type: ignore[no-any-return]
