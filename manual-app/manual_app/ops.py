"""What Kubernetes, Prometheus and `delivery verify` ask: alive, ready, which build, how it goes."""

from dataclasses import asdict

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from manual_app.database import Database, schema_trouble
from manual_app.errors import Unavailable, answer
from manual_app.metrics import Metrics
from manual_app.settings import Build

QUIET = ("/healthz", "/readyz", "/metrics")
"""Asked every second; not worth a line in the log each time."""


def routes(build: Build, database: Database, metrics: Metrics) -> APIRouter:
    """Return the routes for probes and scrapes."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process is up; touches nothing else."""
        return {"status": "ok"}

    @router.get("/readyz", response_model=None)
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
    async def version() -> dict[str, str]:
        """Say which build this is and where it runs."""
        return asdict(build)

    @router.get("/metrics")
    async def prometheus() -> PlainTextResponse:
        """Show the counters in Prometheus' text format."""
        return PlainTextResponse(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
