"""A model behind an OpenAI-compatible endpoint: where it is and how it is asked."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, field_validator

from whet.recipe.part import Part


class EndpointPart(Part):
    model: str = ""
    """Its name at the endpoint."""
    endpoint: str = ""
    """The address of an OpenAI-compatible server: http://localhost:8000/v1."""
    api_key_env: str = ""
    """The environment variable that holds the key. The key itself is written nowhere."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 512
    extra: dict[str, Any] = {}
    """More keys of the request's body; null takes one out."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Requests at once."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for an answer."""
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    """After silence, HTTP 429 or 5xx, or an answer that is none."""
    backoff: Annotated[float, Field(ge=0)] = 0.5
    """Seconds before the second try, doubled before each further one; or what Retry-After says."""

    @field_validator("endpoint")
    @classmethod
    def _address(cls, endpoint: str) -> str:
        if endpoint and not re.match(r"https?://[^/@\s]+(?:/|$)", endpoint):
            raise ValueError("an address such as http://localhost:8000/v1, without user and password")
        return endpoint

    def body(self) -> dict[str, Any]:
        """What every request has."""
        body = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return {key: value for key, value in (body | self.extra).items() if value is not None}
