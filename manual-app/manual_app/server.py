"""uvicorn as this service wants it: quiet about itself, polite to bad requests, bounded at the end."""

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from manual_app.envelope import SECURITY_HEADERS

GRACE_SECONDS = 20
"""How long requests in flight may take after SIGTERM; less than Kubernetes' 30 s."""


class Protocol(H11Protocol):
    """Answers what is not HTTP with the same headers and shape as all else."""

    def send_400_response(self, msg: str) -> None:
        """Answer a request that could not be parsed, and hang up."""
        body = b'{"error":"not a valid HTTP request","hint":"send HTTP/1.1"}'
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **SECURITY_HEADERS,
        }
        for event in (
            h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def server(app: ASGIApp, port: int, host: str = "0.0.0.0") -> uvicorn.Server:  # noqa: S104
    """Return a server for `app` that finishes requests in flight when told to stop."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Protocol,
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
