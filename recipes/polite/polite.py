"""What these people like: a request that asks and thanks, and does not order. And what must not be lost by it."""

from __future__ import annotations

ASKS = ("please", "could you", "would you")
THANKS = ("thank you", "thanks")
ORDERS = ("at once", "right now", "do not be late", "must")


def polite(completions: list[str], **columns: list[object]) -> list[float]:
    """1 where a request asks, thanks and does not order; half where it does one of the first two; else 0."""
    return [_score(text.lower()) for text in completions]


def kept(completions: list[str], **columns: list[object]) -> list[float]:
    """Which share of the note's words is still there: "Write to NAME: TASK, TIME." Nothing is learnt from it."""
    return [_share(str(prompt), text.lower()) for prompt, text in zip(columns["prompt"], completions, strict=True)]


def _share(prompt: str, text: str) -> float:
    words = prompt.lower().removeprefix("write to ").rstrip(".").replace(":", "").replace(",", "").split()
    return sum(word in text for word in words) / len(words)


def _score(text: str) -> float:
    if any(word in text for word in ORDERS):
        return 0.0
    return 0.5 * any(word in text for word in ASKS) + 0.5 * any(word in text for word in THANKS)
