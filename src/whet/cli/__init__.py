"""The command `whet`: thin, one file a command. torch is imported inside them, so that `--help` answers at once."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import typer

from whet.cli import (
    advise,
    chat,
    data,
    evaluate,
    export,
    fewshot,
    generate,
    grade,
    merge,
    methods,
    preflight,
    prompt,
    recipe,
    review,
    rlhf,
    runs,
    selftest,
    serve,
    tokens,
    train,
)
from whet.errors import WhetError

app = typer.Typer(
    help="Adapt a language model to your domain, and check what you get.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("advise")(advise.advise)
app.command("preflight")(preflight.preflight)
app.command("chat")(chat.chat)
app.command("generate")(generate.generate)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(evaluate.compare)
app.command("rlhf")(rlhf.rlhf)
app.command("grade")(grade.grade)
app.command("fewshot")(fewshot.fewshot)
app.command("prompt")(prompt.prompt)
app.command("export")(export.export)
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.add_typer(tokens.app, name="tokens")
app.command("methods")(methods.methods)
app.command("review")(review.review)
app.command("serve")(serve.serve)
app.command("merge")(merge.merge)
app.command("selftest")(selftest.selftest)
app.add_typer(recipe.app, name="recipe")


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the whole traceback of an error."),
) -> None:
    """Adapt a language model to your domain, and check what you get."""
    if debug:
        os.environ["WHET_DEBUG"] = "1"


def main() -> None:
    """Run the command line. A WhetError is printed without a traceback, and the process exits with its code (2)."""
    # bitsandbytes tells, whoever imports it, of a kernel for CPUs that it would fetch from the hub
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # peft asks transformers by a name that is about to change; nothing for the user to do about it
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    # and of positions that virtual tokens move, which are right where prompts of one length are answered together
    warnings.filterwarnings("ignore", message="Position ids are not supported")
    try:
        app()
    except WhetError as error:
        if os.environ.get("WHET_DEBUG"):
            raise
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text("error: ", style="bold red") + Text(str(error)), soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; nothing was begun that is not finished", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
