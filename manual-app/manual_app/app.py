"""Puts the service together from its settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp

from manual_app import api, errors, ops, page, readers
from manual_app.body import BodyLimit
from manual_app.database import Database
from manual_app.envelope import Envelope
from manual_app.metrics import Metrics
from manual_app.rates import Rates
from manual_app.settings import Settings


def create(settings: Settings, metrics: Metrics) -> ASGIApp:
    """Return the whole service, which counts in `metrics`. It starts without its database and takes orders when that
    is there.
    """
    database = Database(settings.database, metrics)
    rates = Rates(settings.rates_url, settings.rates_timeout, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await rates.close()
        database.close()

    app = FastAPI(
        title="manual-app",
        version=settings.build.version,
        docs_url=None,  # these pages load scripts from elsewhere; /openapi.json is served
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    routers = (
        page.routes(settings.build, database, rates),
        api.routes(database, rates, metrics, readers.only(settings.orders_token_file)),
        ops.routes(settings.build, database),
    )
    for router in routers:
        app.include_router(router)
    errors.install(app, [*app.routes, *(route for router in routers for route in router.routes)])
    return Envelope(BodyLimit(app), metrics)
