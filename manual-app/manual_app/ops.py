"""What Kubernetes and `delivery verify` ask: alive, ready, which build. The counters are on the port of operators."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from manual_app.contract import Refusal, Responses
from manual_app.database import Database, schema_trouble
from manual_app.errors import Unavailable, answer
from manual_app.settings import Build

QUIET = ("/healthz", "/readyz")
"""Asked every second; not worth a line in the log each time."""

_NOT_READY: Responses = {
    503: {
        "model": Refusal,
        "description": "Not ready, with the reasons",
        "headers": {"Retry-After": {"required": True, "schema": {"type": "integer"}}},
    }
}


class Alive(BaseModel):
    """The process is up."""

    status: str


class Ready(BaseModel):
    """Orders can be taken."""

    status: str
    schema_: str = Field(alias="schema")


def routes(build: Build, database: Database) -> APIRouter:
    """Return the routes for probes, and for who wants to know what runs."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    async def healthz() -> Alive:
        """Say that the process is up; touches nothing else."""
        return Alive(status="ok")

    @router.get("/readyz", response_model=Ready, responses=_NOT_READY)
    async def readyz() -> Response:
        """Say whether orders can be taken: database reachable and migrations current."""
        try:
            found = await database.revision()
            reasons = schema_trouble(found)
        except Unavailable as away:
            found, reasons = None, [away.error]
        if reasons:
            hint = "wait for the database and the migration Job, then look at their logs"
            return answer(503, "not ready", hint, {"Retry-After": "1"}, reasons=reasons)
        return JSONResponse({"status": "ready", "schema": found})

    @router.get("/version")
    async def version() -> Build:
        """Say which build this is and where it runs."""
        return build

    return router
