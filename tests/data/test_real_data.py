"""Public data sets, where they lie beside the repository: counts against the plainest way to read each."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import pytest
import yaml

from whet.data import read
from whet.errors import RowError
from whet.recipe import DataPart

DATA = Path(__file__).parents[2] / "../shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the public data sets in ../shared/data")


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("instruct/alpaca_5000/alpaca_5000.json", "sft"),
        ("instruct/rasbt_1100/instruction-data.json", "sft"),
        ("instruct/dolly_2k/dolly_2k_chat.jsonl", "sft"),
        ("instruct/tool_calls/glaive_toolcall_en_demo.json", "sft"),
        ("preference/rasbt_1100/instruction-data-with-preference.json", "sft"),
        ("preference/rasbt_1100/instruction-data-with-preference.json", "dpo"),
        ("preference/hh_rlhf/harmless-base.test.jsonl.gz", "dpo"),
        ("preference/hh_rlhf_helpful/helpful-online_test.jsonl.gz", "dpo"),
    ],
)
def test_files_that_need_no_mapping(name, objective):
    path = DATA / name
    content = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    lines = content.rstrip().split(b"\n")
    rows = json.loads(content) if name.endswith(".json") else [json.loads(line) for line in lines]
    found = read([DataPart(path=str(path))], objective)
    assert len(found) == len(rows)
    for row, example in zip(rows, found, strict=True):
        last = (example.messages or example.chosen)[-1]["content"]
        if objective == "dpo":
            assert row["chosen"].strip().endswith(last)
        elif "output" in row:
            assert last == row["output"]


@pytest.mark.parametrize(
    "name",
    [
        "instruct/gsm8k/test.jsonl",
        "instruct/super_natural_instructions/task591_sciq_answer_generation.jsonl",
        "domain/corporate_dialogsum/dialogsum.dev.jsonl",
        "domain/medical_pubmedqa/ori_pqal.json",
        "domain/medquad/medquad_3000.jsonl",
    ],
)
def test_files_whose_error_proposes_the_mapping_that_reads_them(name):
    path = str(DATA / name)
    with pytest.raises(RowError) as caught:
        read([DataPart(path=path)])
    columns = yaml.safe_load(re.search(r"data\.columns=(\{.*\})", caught.value.do)[1])
    rows = read([DataPart(path=path, columns=columns)])
    assert len(rows) > 100
    assert all(row.messages[-1]["content"].strip() for row in rows)


def test_pubmedqa_is_context_then_question():
    path = DATA / "domain/medical_pubmedqa/ori_pqal.json"
    columns = {"prompt": "CONTEXTS+QUESTION", "completion": "LONG_ANSWER"}
    found = read([DataPart(path=str(path), columns=columns)])
    for example, (key, row) in zip(found, json.loads(path.read_text()).items(), strict=True):
        assert example.id == key
        assert example.messages[0]["content"] == "\n".join(row["CONTEXTS"]) + "\n\n" + row["QUESTION"]


def test_clinical_notes_in_csv():
    path = DATA / "domain/mts_dialog/MTS-Dialog-ValidationSet.csv"
    columns = {"prompt": "dialogue", "completion": "section_text"}
    found = read([DataPart(path=str(path), columns=columns)])
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [example.messages[1]["content"] for example in found] == [row["section_text"] for row in rows]


def test_latin1_is_named():
    with pytest.raises(RowError, match=r"Sentences_AllAgree.txt:7: not UTF-8: byte 919 is 0xF1"):
        read([DataPart(path=str(DATA / "domain/finance_phrasebank/Sentences_AllAgree.txt"))])


def test_a_corpus_is_its_paragraphs():
    path = DATA / "corpora/tinyshakespeare/input.txt"
    found = read([DataPart(path=str(path))])
    assert [example.text for example in found] == re.split(r"\n\n+", path.read_text().strip("\n"))
