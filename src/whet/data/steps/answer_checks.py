"""What can be wrong with an answer, as functions of prompt and answer, or of the turns -> what is wrong, or ""."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from whet.data.steps.language import UNDETERMINED, language_of
from whet.data.steps.refusals import refusal


def plain(text: str) -> str:
    """The text for comparing: case and white space folded, no sign at the end."""
    return " ".join(text.casefold().split()).rstrip(" .!?:")


_PLACEHOLDER = re.compile(r"(?i)<?no ?(?:in|out)put>?\.?|<(?:empty|blank|answer|response)>")


def empty(prompt: str, answer: str) -> str:
    """An answer of white space, of invisible characters alone, or a placeholder such as `<nooutput>`."""
    if not any(c.isprintable() and not c.isspace() for c in answer):
        return "empty answer"
    return "placeholder" if _PLACEHOLDER.fullmatch(answer.strip()) else ""


def repeats_prompt(prompt: str, answer: str) -> str:
    """An answer that is the prompt again, or to the letter its last part, or all of it and next to nothing more. What
    differs from the last part in case or signs may be what was asked for."""
    said, asked = plain(answer), plain(prompt)
    if not said or not asked:
        return ""
    if said == asked:
        return "the prompt again"
    if len(said.split()) >= 4 and answer.strip() == prompt.rstrip().rsplit("\n\n", 1)[-1].strip():
        return "the prompt's last part again"
    if len(asked.split()) >= 6 and said.startswith(asked) and len(said) - len(asked) < 20:
        return "begins with the prompt"
    return ""


_MUST_GO_ON = re.compile(
    r"(?i)(?:^|\s)(?:the|an?|and|or|of|to|with|for|from|by|at|which|because|than|their|its|your|is|are|was|were)$"
)
_LIST_LINE = re.compile(r"\s*(?:[-*•+|#]|\(?\w{1,3}[.):])\s")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def truncated(prompt: str, answer: str) -> str:
    """An answer that stops before its end: an open code fence, open brackets of JSON, or prose of a dozen words or more
    that ends in a comma, an opening bracket, a line up to a colon, or a word that another one must follow."""
    text = answer.rstrip()
    if text.count("```") % 2:
        return "open code fence"
    if text[:1] in ("{", "[") and text[1:2] in tuple("\"'{[\n ") and _open_brackets(text):
        return "open JSON"
    if len(text.split()) < 12 or _looks_like_code(text):
        return ""
    last = text.rsplit("\n", 1)[-1]
    if text[-1] in ",(" or (text[-1] == ":" and len(last.split()) >= 6):
        return f"ends in {text[-1]!r}"
    return "ends in a word that must go on" if _MUST_GO_ON.search(last) and not _LIST_LINE.match(last) else ""


def no_full_stop(prompt: str, answer: str) -> str:
    """An answer of one paragraph of whole sentences whose last has six words or more, in lower case, and no full stop.

    It may be cut; people also write so, and tell no such answer from another (docs/quality.md has figures).
    """
    text = answer.rstrip()
    if not text[-1:].isalpha() or "\n" in text or _looks_like_code(text):
        return ""
    sentences = _SENTENCE_END.split(text)
    words = sentences[-1].split()
    if len(sentences) < 3 or len(words) < 6 or not sentences[0][-1:].isalpha() or " - " in sentences[-1]:
        return ""
    return "no full stop" if sum(map(str.islower, words)) >= 0.7 * len(words) else ""


def _open_brackets(text: str) -> bool:
    """Whether brackets stay open, those in strings left out."""
    awaited: list[str] = []
    for sign in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        if sign in _PAIRS:
            awaited.append(_PAIRS[sign])
        elif awaited and sign == awaited[-1]:
            awaited.pop()
    return bool(awaited)


def _looks_like_code(text: str) -> bool:
    return sum(map(text.count, "{}()[];=<>_\\")) > 0.06 * len(text) or "```" in text


_MAY_CHANGE_LANGUAGE = re.compile(
    r"(?i)transl|übersetz|tradu[cizç]|vertaal|languages?\b|sprache\b|langue\b|idioma\b|lingua\b"
    r"|(?:in|into|to|auf|en|from) (?:the )?"
    r"(?:english|german|french|spanish|italian|portuguese|dutch|russian|chinese|mandarin|japanese|korean|arabic|hindi|latin|greek"
    r"|turkish|polish|swedish|danish|norwegian|finnish|hebrew|englisch|deutsch|französisch|spanisch|anglais|français|allemand"
    r"|espagnol|inglés|francés|alemán|español)"
)


_KIN = {
    "pcm": "en", "nn": "no", "da": "no", "bs": "hr", "sr": "hr", "sk": "cs", "ms": "id", "wuu": "zh", "yue": "zh",
    "gl": "pt", "ext": "es", "an": "es", "ca": "es", "oc": "ca", "wa": "fr", "fy": "nl", "af": "nl", "lb": "de",
}  # fmt: skip
"""Languages that are taken for another, so alike are they in print."""


def wrong_language(prompt: str, answer: str, min_probability: float = 0.9) -> str:
    """An answer in another language than the first and the last part of its prompt (a system prompt and the question,
    or an instruction and its input), all surely known, where no translation is asked for."""
    if _MAY_CHANGE_LANGUAGE.search(prompt):
        return ""
    parts = prompt.strip().split("\n\n")
    answered = _surely(answer, min_probability)
    if not answered:
        return ""
    asked = list(dict.fromkeys(filter(None, (_surely(part, min_probability) for part in (parts[0], parts[-1])))))
    return f"asked in {' and '.join(asked)}, answered in {answered}" if asked and answered not in asked else ""


@lru_cache(maxsize=4096)  # system prompts and instructions come again and again
def _surely(text: str, min_probability: float) -> str:
    code, _ = language_of(text, min_probability=min_probability)
    return "" if code == UNDETERMINED else _KIN.get(code, code)


_ROLES = {
    "human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "developer": "system",
    "function_call": "call", "observation": "tool", "function": "tool", "ipython": "tool",
}  # fmt: skip
_AFTER: dict[str, set[str]] = {
    "": {"system", "user"}, "system": {"user"}, "user": {"assistant", "call"}, "assistant": {"user"},
    "call": {"tool"}, "tool": {"tool", "assistant", "call"},
}  # fmt: skip
"""Which roles may follow which; a `call` is an assistant's turn that calls tools."""


def roles(turns: Sequence[Any]) -> str:
    """What is wrong with the order of a conversation's turns: system first, then user and assistant in turn, a tool's
    result after each call, and an answer at the end."""
    if not turns:
        return "no turns"
    before = ""
    for number, turn in enumerate(turns, 1):
        role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
        role = _ROLES.get(str(role), str(role))
        content = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
        if role == "assistant" and turn.get("tool_calls"):
            role = "call"
        if role not in _AFTER or not role:
            return f"unknown role {role!r}"
        if role not in _AFTER[before]:
            return f"{role} after {before}" if before else f"{role} first"
        if role in ("user", "assistant") and not content and number < len(turns):
            return f"{role} says nothing"
        before = role
    return "" if before in ("assistant", "call") else f"no answer after {before}"


CHECKS: dict[str, Callable[[str, str], str]] = {
    "empty": empty,
    "repeats-prompt": repeats_prompt,
    "refusal": refusal,
    "truncated": truncated,
    "no-full-stop": no_full_stop,
    "wrong-language": wrong_language,
}
