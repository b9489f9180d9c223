"""Refuses request bodies that are too large, whether they say so beforehand or not."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manual_app.errors import MAX_BODY_BYTES, body_too_large


class BodyLimit:
    """Answers 413 at once to an announced size, and to a chunked body as soon as it grows too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if int(Headers(scope=scope).get("content-length", "0")) > MAX_BODY_BYTES:
            return await body_too_large()(scope, receive, send)
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)
