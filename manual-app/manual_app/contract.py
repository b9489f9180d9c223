"""What /openapi.json says beyond the good answers: each error, with its shape and its headers."""

from typing import Any

from pydantic import BaseModel

Responses = dict[int | str, dict[str, Any]]


class Problem(BaseModel):
    """Something is wrong: what, and what to do."""

    error: str
    hint: str


class Refusal(Problem):
    """The same, with each reason by its field."""

    reasons: list[str]


def _header(name: str, kind: str) -> dict[str, Any]:
    return {"headers": {name: {"required": True, "schema": {"type": kind}}}}


UNAVAILABLE: Responses = {
    503: {
        "model": Problem,
        "description": "The database or the rates API is away",
        **_header("Retry-After", "integer"),
    }
}
REFUSED: Responses = {422: {"model": Refusal, "description": "The request makes no sense"}}
READERS_ONLY: Responses = {
    401: {"model": Problem, "description": "Not without the token", **_header("WWW-Authenticate", "string")}
}
NOT_FOUND: Responses = {404: {"model": Problem, "description": "There is none"}}
BODY: Responses = {
    413: {"model": Problem, "description": "The body is too large"},
    415: {"model": Problem, "description": "The body is not JSON", **_header("Accept", "string")},
}
