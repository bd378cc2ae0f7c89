"""The whole of a run against TRL's SFTTrainer: same model, LoRA, rows and order, so the same loss at every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator

from whet.methods import METHODS, Given
from whet.models.language_model import LanguageModel
from whet.recipe import FullPart, LoRAPart, SFTPart, TrainPart
from whet.rows import Row
from whet.train.engine import Engine
from whet.train.schedule import Schedule

trl = pytest.importorskip("trl", reason="the oracle of this test; pip install 'whet[bench]'")
pytest.importorskip("datasets", reason="TRL needs it; pip install 'whet[bench]'")

STEPS, BATCH = 20, 4


def adapted(make_model, method: str) -> Any:
    torch.manual_seed(7)
    part = LoRAPart(r=4) if method == "lora" else FullPart()
    return METHODS[method].apply(make_model("llama"), part, Given())


def whet_losses(model: Any, rows: list[Row], part: TrainPart) -> tuple[list[float], list[float]]:
    """(loss, learning rate) of every step."""
    engine = Engine(LanguageModel(model), SFTPart(), part, Accelerator(cpu=True), torch.float32)
    engine.language_model.train()
    schedule = Schedule(len(rows), part)
    losses, rates = [], []
    for step in range(schedule.total_steps):
        losses.append(engine.forward_backward([rows[i] for i in schedule.rows_of(step)]).loss)
        rates.append(schedule.learning_rate(step))
        engine.optim_step(rates[-1])
    return losses, rates


def trl_losses(model: Any, rows: list[Row], tokenizer: Any, folder, scheduler: str) -> tuple[list[float], list[float]]:
    from datasets import Dataset
    from torch.utils.data import SequentialSampler

    class InOrder(trl.SFTTrainer):
        def _get_train_sampler(self, *given: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    columns = {
        "input_ids": [row.ids.tolist() for row in rows],
        "completion_mask": [row.targets.astype(int).tolist() for row in rows],
    }
    config = trl.SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=BATCH, max_steps=STEPS, learning_rate=5e-3,
        lr_scheduler_type=scheduler, warmup_steps=3, weight_decay=0.01, max_grad_norm=1.0, bf16=False, use_cpu=True,
        gradient_checkpointing=False, completion_only_loss=True, max_length=None, logging_steps=1, report_to="none",
        save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = InOrder(model, args=config, train_dataset=Dataset.from_dict(columns), processing_class=tokenizer)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return [line["loss"] for line in lines], [line["learning_rate"] for line in lines]


@pytest.mark.parametrize(
    ("method", "scheduler", "settings"),
    [
        ("lora", "cosine", {}),
        ("lora", "constant", {"pack_tokens": 64}),
        ("full", "cosine", {"share_prefixes": False, "gradient_checkpointing": True}),
    ],
)
def test_twenty_steps_have_the_losses_of_sft_trainer(
    make_model, make_rows, tiny_tokenizer, tmp_path, method: str, scheduler: str, settings: dict[str, Any]
) -> None:
    """14 rows by 4: the last batch of each epoch has two. To 1e-4, in float32."""
    rows = [Row(row.ids, row.targets) for seed in (0, 1) for row in make_rows(seed)]
    part = TrainPart(
        max_steps=STEPS, batch_size=BATCH, learning_rate=5e-3, lr_scheduler_type=scheduler, warmup_steps=3,
        weight_decay=0.01, max_grad_norm=1.0, shuffle=False, **settings,
    )  # fmt: skip
    model = adapted(make_model, method)
    if part.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    losses, rates = whet_losses(model, rows, part)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    kind = {"constant": "constant_with_warmup"}.get(scheduler, scheduler)
    expected, expected_rates = trl_losses(adapted(make_model, method), rows, tokenizer, tmp_path, kind)
    assert rates == pytest.approx(expected_rates, rel=1e-9, abs=1e-12)
    assert losses == pytest.approx(expected, abs=1e-4)
    assert losses[-1] < losses[0] - 0.3  # and something was learnt
