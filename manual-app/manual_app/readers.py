"""Who may read orders: whoever sends the token, `Authorization: Bearer …`. Anybody may place one."""

import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from manual_app.errors import Unavailable

_BEARER = HTTPBearer(
    scheme_name="reader", description="The token of those who read orders.", auto_error=False
)


def only(file: Path) -> Callable[..., Awaitable[None]]:
    """Return the dependency that lets through who sends the token in `file`, and answers 401 to all others.

    The file is read each time, so that a new token is picked up; without one nobody reads, which is a 503.
    """

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        try:
            token = file.read_bytes().strip()
        except OSError:
            token = b""
        if not token:
            raise Unavailable("nobody can read orders: there is no token", "mount the file ORDERS_TOKEN_FILE")
        # In constant time: how long a wrong one takes says nothing of the right one.
        if given is None or not hmac.compare_digest(given.credentials.encode(), token):
            raise HTTPException(
                401, "reading orders needs the token", {"WWW-Authenticate": 'Bearer realm="orders"'}
            )

    return check
