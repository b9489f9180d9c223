"""Answers when something is wrong: always JSON with `error` (what) and `hint` (what to do)."""

from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

MAX_BODY_BYTES = 64 * 1024

_HINTS = {
    401: "send Authorization: Bearer and the token; the README says where it is",
    404: "GET / shows what this service offers",
    405: "see the Allow header",
    415: "send Content-Type: application/json",
}


class Unavailable(Exception):
    """Something outside that a request needs is away. The request changed nothing."""

    def __init__(self, error: str, hint: str, retry_after: int = 5) -> None:
        super().__init__(error)
        self.error = error
        self.hint = hint
        self.retry_after = retry_after


def answer(
    status: int, error: str, hint: str, headers: Mapping[str, str] | None = None, **more: object
) -> JSONResponse:
    """Return the one shape in which this service reports that something is wrong."""
    return JSONResponse({"error": error, "hint": hint, **more}, status, headers)


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Make every error of `app`, which serves `routes`, answer in that shape."""

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, exc: Unavailable) -> JSONResponse:
        return answer(503, exc.error, exc.hint, {"Retry-After": str(exc.retry_after)})

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
        return _refused([_reason(**error) for error in exc.errors()])

    @app.exception_handler(HTTPException)
    async def http(request: Request, exc: HTTPException) -> JSONResponse:
        if exc.status_code == 413:
            return body_too_large()
        if exc.status_code == 400:  # FastAPI's word for a body that its JSON parser gives up on
            return _refused(["body: not readable as JSON"])
        hint = _HINTS.get(exc.status_code, "see /openapi.json")
        headers = {"Allow": _allowed(routes, request)} if exc.status_code == 405 else exc.headers
        return answer(exc.status_code, exc.detail, hint, headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, exc: Exception) -> JSONResponse:
        return answer(500, "internal error", "report it with the X-Request-ID of this answer")


def body_too_large() -> JSONResponse:
    """Return the answer to a body over the limit; the rest of it is not read."""
    hint = f"send at most {MAX_BODY_BYTES // 1024} KiB"
    return answer(413, "the request's body is too large", hint, {"Connection": "close"})


def _allowed(routes: Sequence[BaseRoute], request: Request) -> str:
    """Return the methods of all routes with this path; Starlette names those of the first alone."""
    methods: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return ", ".join(sorted(methods))


def _refused(reasons: list[str]) -> JSONResponse:
    hint = "mend what the reasons name, then send it again"
    return answer(422, "the request was refused", hint, reasons=reasons)


def _reason(type: str, loc: tuple[str | int, ...], msg: str, **_: object) -> str:
    if type == "json_invalid":
        return "body: not JSON"
    field = ".".join(str(part)[:40] for part in loc[1:]) or str(loc[0])
    if type == "extra_forbidden":
        return f"{field}: not a field of this request"
    message = msg.removeprefix("Value error, ")
    return f"{field}: {message[:1].lower()}{message[1:]}"
