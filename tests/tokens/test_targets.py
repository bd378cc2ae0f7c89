"""From learnt characters to learnt tokens, with tokenizers of several kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet.tokens.targets import encode, token_starts, tokenise
from whet.tokens.template import Renderer
from whet.tokens.turns import Piece

Make = Callable[..., Any]
SHARED = Path(__file__).parents[2] / "../shared"


@pytest.fixture
def sentencepiece() -> Any:
    """As Llama-2's: a blank before any text, blanks as ▁, bytes for letters that it does not know."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", "▁", *"abcdehilosuy:[]/INST?", "▁y", "ye", "▁ye", "es", "▁yes", "\n"]
    vocabulary = {word: number for number, word in enumerate([*words, *(f"<0x{byte:02X}>" for byte in range(256))])}
    merges = [("▁", "y"), ("y", "e"), ("▁", "ye"), ("e", "s"), ("▁ye", "s"), ("▁y", "es")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def learnt(tokenizer: Any, text: str, answer: str) -> list[str]:
    """The learnt tokens of a text that ends with the answer."""
    ((ids, targets),) = encode(tokenizer, [Piece(text, [(len(text) - len(answer), len(text))])])
    assert tokenizer.decode(ids) == tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids)
    return list(tokenizer.convert_ids_to_tokens(ids[targets].tolist()))


def test_letters_that_are_several_bytes_are_learnt_whole_or_not_at_all(sentencepiece: Any) -> None:
    party = [f"<0x{byte:02X}>" for byte in "🎉".encode()]
    assert learnt(sentencepiece, "<s>[INST] 🎉 [/INST] 🎉s</s>", " 🎉s</s>") == ["▁", *party, "s", "</s>"]
    assert learnt(sentencepiece, "<s>hi 🎉🎉", "🎉") == party
    assert learnt(sentencepiece, "<s>hi é日", "日") == [f"<0x{byte:02X}>" for byte in "日".encode()]


def test_a_word_that_would_swallow_the_end_of_the_prompt_is_cut_off_it(
    make_tokenizer: Make, sentencepiece: Any
) -> None:
    # " yes" is one token, and so is the blank that serving's prompt ends with.
    tokenizer = make_tokenizer()
    assert tokenizer.tokenize("Answer: yes")[-1] == "Ġyes"
    assert learnt(tokenizer, "Answer: yes</s>", "yes</s>") == ["yes", "</s>"]
    assert sentencepiece.tokenize("said: yes")[-1] == "▁yes"
    assert learnt(sentencepiece, "said: yes</s>", "yes</s>") == ["ye", "s", "</s>"]  # and no blank before them
    for each in (tokenizer, sentencepiece):
        ((ids, targets),) = encode(each, [Piece("<s>said: yes", [(9, 12)])])
        assert ids[~targets].tolist() == each("<s>said: ", add_special_tokens=False).input_ids


def test_line_breaks_that_run_into_the_answer_are_context(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer()
    assert len(tokenizer.tokenize("\n\n")) == 1
    assert learnt(tokenizer, "assistant\n\nyes", "\nyes") == ["Ċ", "yes"]
    # GPT-2's rule splits the line breaks before a word that are one token alone, as in the prompt.
    assert tokenizer.tokenize("\n\nyes") == ["Ċ", "Ċ", "yes"]
    ((ids, targets),) = encode(tokenizer, [Piece("hello\n\nyes", [(7, 10)])])
    assert tokenizer.convert_ids_to_tokens(ids[~targets].tolist())[-1] == "ĊĊ"


def test_several_spans_of_a_row_are_cut_each(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer()
    text = "Answer: yes</s>Answer: no</s>"
    ((ids, targets),) = encode(tokenizer, [Piece(text, [(8, 15), (23, 29)])])
    shown = [
        ("«" if target else "") + token
        for token, target in zip(tokenizer.convert_ids_to_tokens(ids), targets, strict=True)
    ]
    asked = tokenizer.tokenize("Answer: ")
    assert shown == [*asked, "«yes", "«</s>", *asked, *("«" + token for token in tokenizer.tokenize("no")), "«</s>"]


def test_offsets_without_their_blanks_give_the_same_targets(make_tokenizer: Make) -> None:
    """As Llama-3's tokenizer.json has it: a post-processor that trims blanks off offsets."""
    from tokenizers import processors

    plain, trimming = make_tokenizer(), make_tokenizer()
    trimming.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    texts = ["Answer:  yes", "Answer: \n yes  ", "  hello   there "]
    offsets = [t(texts, return_offsets_mapping=True)["offset_mapping"] for t in (plain, trimming)]
    assert offsets[0] != offsets[1]
    for text in texts:
        for start in range(len(text)):
            pieces = [Piece(text, [(start, len(text))])]
            for one, other in zip(encode(plain, pieces)[0], encode(trimming, pieces)[0], strict=True):
                assert one.tolist() == other.tolist()


def test_words_of_a_tokenizer_that_drops_blanks_are_not_lost() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["[UNK]", "user", "assistant", "hello", "yes", "[SEP]"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[SEP]", unk_token="[UNK]")
    assert learnt(fast, "user hello assistant\nyes[SEP]", "yes[SEP]") == ["yes", "[SEP]"]


def test_the_end_token_is_added_where_a_piece_wants_it(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer()
    ((ids, targets),) = encode(tokenizer, [Piece("Answer: yes", [(7, 11)], add_stop=True)])
    assert ids.tolist() == tokenizer("Answer: yes</s>").input_ids
    assert ids.dtype == np.int32
    assert targets.tolist() == [False] * (len(ids) - 2) + [True, True]
    assert encode(tokenizer, []) == []
    ((ids, targets),) = encode(tokenizer, [Piece("", [])])
    assert (len(ids), len(targets)) == (0, 0)


@pytest.mark.parametrize(
    ("offsets", "starts"),
    [
        ([(0, 2), (2, 3), (3, 4)], [0, 2, 3]),
        ([(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], [0, 1, 1, 1, 2]),  # three bytes of one letter
        ([(0, 1), (1, 2), (2, 2), (2, 2), (2, 3)], [0, 1, 1, 1, 2]),  # the same, later bytes at an empty place
        ([(0, 2), (3, 5), (5, 5), (6, 7)], [0, 2, 2, 5]),  # blanks trimmed: " bc" is (3, 5), " d" is (6, 7)
        ([(0, 2), (4, 4), (4, 6)], [0, 2, 4]),  # two blanks, trimmed to nothing
        ([(0, 0), (0, 1)], [0, 0]),  # a blank that is not in the text
    ],
)
def test_where_tokens_begin(offsets: list[tuple[int, int]], starts: list[int]) -> None:
    begins, ends = np.array(offsets).T
    assert token_starts(begins, ends).tolist() == starts


@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="needs the tokenizers of real models in ../shared/models")
@pytest.mark.parametrize("name", ["stories260K", "babyllama-tok105", "gpt2-tokenizer"])
def test_real_tokenizers_learn_answers_to_the_letter(name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHARED / "models" / name)
    renderer = Renderer(tokenizer)
    assert renderer.is_plain
    answers = ["Once there was a cat.", "été", "a  b"]
    if name != "babyllama-tok105":  # knows no line break: those on both sides are one <unk>
        answers += [" \n cat", "\n\nOnce"]
    for answer in answers:
        asked = [{"role": "user", "content": "Tell me\n"}]
        (row,) = renderer.conversation([*asked, {"role": "assistant", "content": answer}])
        first = int(row.targets.argmax())
        assert row.ids[:first].tolist() == renderer.prompt(asked)
        known = tokenizer.decode(tokenise(tokenizer, [answer])[0].ids)  # a letter that it does not know is <unk>
        decoded = tokenizer.decode(row.ids[row.targets])
        assert decoded.removesuffix(tokenizer.eos_token).strip(" ") == known.strip(" ")
        assert row.ids[row.targets][-1] == tokenizer.eos_token_id
