"""The page at /: what runs here, and whether its neighbours answer. It shows no order: everybody sees it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from manual_app.database import Database, schema_trouble
from manual_app.errors import Unavailable
from manual_app.rates import Rates
from manual_app.settings import Build

_HERE = Path(__file__).parent


def routes(build: Build, database: Database, rates: Rates) -> APIRouter:
    """Return the page, its stylesheet and its icon."""
    router = APIRouter(include_in_schema=False)
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined
    )

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page() -> HTMLResponse:
        trouble, rates_trouble = await asyncio.gather(_ask_database(database), _ask_rates(rates))
        html = templates.get_template("page.html").render(
            build=build, database_trouble=trouble, rates_trouble=rates_trouble
        )
        return HTMLResponse(html)

    for name, media_type in (("style.css", "text/css"), ("icon.svg", "image/svg+xml")):
        router.add_api_route(f"/{name}", _asset((_HERE / "static" / name).read_bytes(), media_type))
    return router


def _asset(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return Response(content, media_type=media_type)

    return serve


async def _ask_database(database: Database) -> str | None:
    try:
        reasons = schema_trouble(await database.revision())
    except Unavailable as away:
        return away.error
    return reasons[0] if reasons else None


async def _ask_rates(rates: Rates) -> str | None:
    try:
        await rates.latest("USD")
    except Unavailable as away:
        return away.error
    return None
