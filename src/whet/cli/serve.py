"""`whet serve`: OpenAI's API over runs and models."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import Annotated

import typer


class Dtype(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def serve(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="RUN or MODEL ...", help="Run folders, model folders, models' names.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="NAME=RUN", help="Serve one under a name of your own.")
    ] = None,
    host: Annotated[str, typer.Option(help="Another than this machine's own needs an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="WHET_API_KEY", help="What clients must send. Better in the environment than here."),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Answers of one model that are written at once, at most.")] = 64,
    dtype: Annotated[Dtype, typer.Option(help="Of frozen weights. auto: as recipes and the machine have it.")] = (
        Dtype.auto
    ),
    queue: Annotated[int, typer.Option(min=1, help="Answers that may wait; more are asked to try again (429).")] = 1024,
) -> None:
    """Serve runs and models: chat, completions and embeddings by OpenAI's API."""
    from rich.console import Console

    from whet.serve.serve import named
    from whet.serve.serve import serve as run

    console = Console(highlight=False)

    def told(url: str, names: list[str], notes: list[str]) -> None:
        for note in notes:
            console.print(f"! {note}", markup=False, soft_wrap=True)
        for one in names:
            console.print(f"  {one}", markup=False, soft_wrap=True)
        console.print(f"at {url}/v1; Ctrl-C ends it. From Python:", markup=False, soft_wrap=True)
        asked = '[{"role": "user", "content": "Hello"}]'
        key = '"none"' if api_key is None else 'os.environ["WHET_API_KEY"]'
        console.print(
            f'  client = openai.OpenAI(base_url="{url}/v1", api_key={key})\n'
            f'  answer = client.chat.completions.create(model="{names[0]}", messages={asked})\n'
            "  print(answer.choices[0].message.content)",
            markup=False, soft_wrap=True,
        )  # fmt: skip

    with suppress(KeyboardInterrupt):
        run(
            named(sources or [], name or []), host=host, port=port, api_key=api_key, at_once=at_once,
            most_waiting=queue, dtype=dtype.value, told=told,
        )  # fmt: skip
