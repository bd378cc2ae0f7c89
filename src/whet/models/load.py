"""From a name to a model with its tokenizer: a folder, the hub, or the small one in the package.

Files come first, code second: a folder is looked through by `safety.check_folder` before transformers reads it, and a
model from the hub is fetched file by file (configs and tokenizer, then only the safetensors) and looked through alike.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from whet.errors import ModelError, WhetError
from whet.models.quantize import quantization, settle
from whet.models.safety import check_folder, check_tokenizer
from whet.models.vocabulary import add_tokens, grow
from whet.models.weights import weight_names
from whet.recipe import ModelPart

if TYPE_CHECKING:
    from whet.models.in_context.prompt import Prompt

WHET_TINY = "whet-tiny"

REWARD_HEAD = "score.weight"

_OLDEST_TRANSFORMERS = (5, 5)
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to run, in evaluation mode. `folder` holds its files; `notes` is what should be told though
    it is no fault; `prompt` is that of a prompt run, which the tokenizer has."""

    model: Any
    tokenizer: Any
    name: str
    folder: Path
    notes: list[str] = field(default_factory=list)
    prompt: Prompt | None = None


def load(
    part: ModelPart | str,
    frozen_dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    rewards: bool = False,
) -> Loaded:
    """The model and its tokenizer, on `device`, with weights of `frozen_dtype` (None: as the recipe's `dtype` says).
    `rewards`: as transformers' sequence classifier with one label, which gives a number for an answer; its head, where
    the folder has none, is drawn with standard deviation 1 / sqrt(width + 1) from torch's random numbers.

    Raises ModelError for a model that is not there, is unsafe to load (see `whet.models.safety`), lacks weights, has
    weights that do not fit its config, or a tokenizer that does not fit its embeddings.
    """
    part = ModelPart(name=part) if isinstance(part, str) else part
    folder = find(part)
    notes = check_folder(folder, part)
    config = _read_config(folder, part)
    if not rewards and is_classifier(config):
        raise ModelError(
            "a classifier or reward model, which writes no answers",
            where=str(folder),
            do="name the model that it was made from; a reward model grades: a grader of type reward_model",
        )
    tokenizer = read_tokenizer(folder, part, config)
    new = add_tokens(tokenizer, part.new_tokens)
    if rewards:
        config.num_labels = 1
        config.pad_token_id = tokenizer.pad_token_id if config.pad_token_id is None else config.pad_token_id
    model, more = _read_model(folder, part, config, frozen_dtype or _dtype(part, device), device, rewards)
    grow(model, len(tokenizer) if new else 0, new)
    # The name as given, not a path into the cache: peft writes it into adapters.
    model.name_or_path = model.config.name_or_path = part.name
    return Loaded(model, tokenizer, part.name, folder, notes + more)


def is_classifier(config: Any) -> bool:
    """Whether the folder's weights are of a model with a classifier's head, as reward models have."""
    return any("SequenceClassification" in str(name) for name in config.architectures or ())


def load_config(part: ModelPart) -> Any:
    """The model's config without its weights. Raises ModelError as `load` does."""
    folder = find(part, weights=False)
    check_folder(folder, part, weights=False)
    return _read_config(folder, part)


def load_tokenizer(part: ModelPart) -> Any:
    """The model's tokenizer without its weights. Raises ModelError as `load` does."""
    folder = find(part, weights=False)
    check_folder(folder, part, weights=False)
    tokenizer = read_tokenizer(folder, part, _read_config(folder, part))
    add_tokens(tokenizer, part.new_tokens)
    return tokenizer


def load_tokenizer_alone(folder: Path) -> Any:
    """The tokenizer of a folder without a model: what `whet tokens train` writes. Raises ModelError."""
    _check_transformers()
    try:
        with quietly():
            return transformers.AutoTokenizer.from_pretrained(str(folder))
    except Exception as error:  # as in `read_tokenizer`
        raise ModelError(f"no tokenizer that can be read: {_line(error)}", where=str(folder)) from error


def frozen_dtype(part: ModelPart, device: str | torch.device) -> torch.dtype:
    """What weights are loaded in that training does not change: the recipe's choice, or for `auto` bfloat16 where the
    device multiplies it in hardware, else float32.

    On CPU that is AVX-512 BF16 or AMX; a processor without them has to emulate bfloat16.
    """
    if part.dtype != "auto":
        return torch.bfloat16 if part.dtype == "bfloat16" else torch.float32
    kind = torch.device(device).type
    if kind == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if fast else torch.float32


_dtype = frozen_dtype  # `load` has an argument of that name


def find(part: ModelPart, weights: bool = True) -> Path:
    """The folder of a model: `whet-tiny`'s in the package, the one that `name` is a path of, or the hub's snapshot,
    fetched when it is not in the cache (`weights` False: without the weights).

    Raises ModelError with the nearest name for a path that is not there, and with what to do where the hub is out of
    reach.
    """
    _check_transformers()
    if part.name == WHET_TINY:
        return Path(str(files("whet.models") / WHET_TINY))
    path = Path(part.name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelError("a file, not a model's folder", where=part.name, do=f"give its folder: model={path.parent}")
    looks_like_path = part.name.startswith((".", "/", "~")) or part.name.count("/") > 1
    if looks_like_path or not _HUB_NAME.fullmatch(part.name):
        raise ModelError(f"no such model folder.{_near(path)}", where=part.name, do="check the path")
    return _fetch(part, weights)


def _check_transformers() -> None:
    numbers = tuple(int(number) for number in re.findall(r"\d+", transformers.__version__)[:2])
    if numbers < _OLDEST_TRANSFORMERS:
        raise ModelError(
            f"transformers {transformers.__version__} lets a model's config run code (CVE-2026-4372, CVE-2026-5241)",
            do="pip install -U 'transformers>=5.5'",
        )


def _near(path: Path) -> str:
    """` Did you mean 'x'?` for the folder beside `path` with the most similar name, or nothing where none is near."""
    beside = [str(folder) for folder in path.parent.iterdir() if folder.is_dir()] if path.parent.is_dir() else []
    names = {Path(folder).name: folder for folder in beside} | (
        {WHET_TINY: WHET_TINY} if path == Path(path.name) else {}
    )
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f" Did you mean {names[near[0]]!r}?" if near else ""


def _fetch(part: ModelPart, weights: bool) -> Path:
    """The snapshot of a model on the hub. Its configs come first and are looked through; then the weights they name."""
    from huggingface_hub import snapshot_download

    small = [*_SMALL_FILES, *(["*.py"] if part.trust_remote_code else [])]
    try:
        folder = Path(
            snapshot_download(part.name, revision=part.revision, allow_patterns=small, ignore_patterns=["*/*"])
        )
        if weights:
            check_folder(folder, part, weights=False)
            wanted = weight_names(folder) or ["model.safetensors"]
            snapshot_download(part.name, revision=folder.name, allow_patterns=wanted)
    except WhetError:
        raise
    except Exception as error:  # hub, HTTP and file errors of many libraries; each ends in one line for the user
        raise _not_fetched(part, error) from error
    return folder


def _not_fetched(part: ModelPart, error: Exception) -> ModelError:
    from huggingface_hub import constants, errors

    offline = constants.HF_HUB_OFFLINE
    near = _near(Path(part.name))
    if isinstance(error, errors.GatedRepoError):
        what, do = (
            "the hub gives this model to registered users only",
            "accept its terms on its page, then `hf auth login`",
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        what, do = f"the hub has no revision {part.revision!r} of this model", "check model.revision"
    elif isinstance(error, errors.RepositoryNotFoundError):
        what, do = (
            f"no folder here, and no model on the hub.{near}",
            "check the name; a private model needs `hf auth login`",
        )
    elif isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError)):
        reach = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        what = f"neither a folder here nor (whole) in the cache, and {reach}.{near}"
        do = ("unset HF_HUB_OFFLINE, or " if offline else "check the network, or ") + (
            f"run `hf download {part.name} --local-dir FOLDER` where there is network and give FOLDER's path here"
        )
    else:
        what, do = f"cannot be fetched from the hub: {_line(error)}", "try again, or give a folder"
    return ModelError(what, where=part.name, do=do)


def _read_config(folder: Path, part: ModelPart) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=part.trust_remote_code)
    except Exception as error:  # any value may be of the wrong kind, and each config class fails in its own way
        raise ModelError(
            f"transformers cannot use this config: {_line(error)}",
            where=str(folder / "config.json"),
            do="correct the value, or fetch the file again",
        ) from error


def read_tokenizer(folder: Path, part: ModelPart, config: Any) -> Any:
    """The tokenizer of a folder that was looked through, for a model with this config. Raises ModelError where there is
    none, or one that does not fit."""
    try:
        with quietly():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(folder), config=config, trust_remote_code=part.trust_remote_code
            )
    except Exception as error:  # a tokenizer's files come in a dozen formats, each with errors of its own
        raise ModelError(
            f"no tokenizer that can be read: {_line(error)}",
            where=str(folder),
            do="copy tokenizer.json and tokenizer_config.json of the model into the folder",
        ) from error
    check_tokenizer(tokenizer, config)
    return tokenizer


def _read_model(
    folder: Path, part: ModelPart, config: Any, dtype: torch.dtype, device: str | torch.device, rewards: bool
) -> tuple[Any, list[str]]:
    """The model, every weight of it from the folder (but a new head for `rewards`), and a note on weights that it has
    no place for."""
    kind = transformers.AutoModelForSequenceClassification if rewards else transformers.AutoModelForCausalLM
    try:
        with quietly():
            model, report = kind.from_pretrained(
                str(folder),
                config=config,
                dtype=dtype,
                device_map={"": device},
                use_safetensors=True,
                trust_remote_code=part.trust_remote_code,
                ignore_mismatched_sizes=True,  # so that they are reported; they are refused below
                output_loading_info=True,
                quantization_config=quantization(part.quantize, config, dtype, torch.device(device)),
            )
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the weights do not fit on {device}", where=part.name, do="model.dtype=bfloat16, or a smaller model"
        ) from error
    except WhetError:
        raise
    except Exception as error:  # modelling code of hundreds of types
        raise ModelError(
            f"transformers cannot build the model: {_line(error)}",
            where=str(folder),
            do="check that config.json belongs to these weights",
        ) from error
    if report["mismatched_keys"]:
        name, found, wanted = min(report["mismatched_keys"])
        what = f"{name} is {list(found)} in the weights and {list(wanted)} by the config"
        raise _unfit(folder, what, len(report["mismatched_keys"]))
    report["unexpected_keys"] = set(report["unexpected_keys"]) - ({"lm_head.weight"} if rewards else set())
    if rewards and not hasattr(model, "score"):
        raise ModelError(
            f"{type(model).__name__} has no head for rewards that is known here",
            where=str(folder),
            do="choose a model that writes text from left to right, such as a Llama, Qwen, Gemma or GPT-2",
        )
    if rewards and set(report["missing_keys"]) == {REWARD_HEAD}:
        report["missing_keys"] = []
        torch.nn.init.normal_(model.score.weight, std=1 / math.sqrt(model.score.in_features + 1))
    if rewards:
        model.score.float()  # a reward has digits that bfloat16 has not
    if report["missing_keys"]:
        raise _unfit(folder, f"the weights lack {min(report['missing_keys'])}", len(report["missing_keys"]))
    _check_layers(folder, report["unexpected_keys"], config)
    notes = settle(model) if part.quantize else []
    if not report["unexpected_keys"]:
        return model, notes
    count = len(report["unexpected_keys"])
    return model, [
        *notes,
        f"{folder}: {count} tensors of the weights have no place in the model, {min(report['unexpected_keys'])} first",
    ]


def _check_layers(folder: Path, unexpected: Iterable[str], config: Any) -> None:
    """Weights of layers that the config does not count would be left out, and what is left is another model."""
    layers = int(config.get_text_config().num_hidden_layers)
    beyond = [key for key in unexpected if (found := _LAYER.search(key)) and int(found[1]) >= layers]
    if beyond:
        raise _unfit(folder, f"the weights have {min(beyond)}, and the config {layers} layers", len(beyond))


def _unfit(folder: Path, what: str, count: int) -> ModelError:
    more = f" (and {count - 1} more)" if count > 1 else ""
    return ModelError(
        f"the weights do not fit config.json: {what}{more}",
        where=str(folder),
        do="fetch both from the same model; a part that is missing would start from random numbers",
    )


def _line(error: Exception) -> str:
    """An error's first line that says something; libraries' messages run over many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = " ".join(lines[:2]) if lines and lines[0].endswith(":") else (lines or [type(error).__name__])[0]
    return first[:300]


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' progress bars and its table of misfits, which are checked and said once here."""
    logging = transformers.utils.logging
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
