"""Fields of OpenAI's API that this server does not answer to: named in the fault, never passed over."""

from __future__ import annotations

from typing import Any

UNSUPPORTED = frozenset(
    {
        "audio", "best_of", "dimensions", "function_call", "functions", "modalities", "moderation",
        "parallel_tool_calls", "prediction", "prompt_cache_retention", "reasoning_effort", "response_format",
        "service_tier", "store", "suffix", "verbosity", "web_search_options",
    }
)  # fmt: skip

HARMLESS: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),  # a wish about calls, and none is made
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
}
"""Values of them that ask for nothing: what is done anyway."""


def without_harmless(data: dict[str, Any]) -> dict[str, Any]:
    """A request without fields that are null, or ask for nothing."""
    return {
        name: value
        for name, value in data.items()
        if value is not None and not any(_same(value, harmless) for harmless in HARMLESS.get(name, ()))
    }


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b
