"""A registry as companies run theirs: TLS under an authority of the test's own, and a login, by token or basic.

`Door` stands before a real registry that speaks plain HTTP and asks nobody who he is, and does what GHCR, GitLab or
Docker Hub do at theirs: 401 with `WWW-Authenticate: Bearer realm, service, scope`; a token server that takes a basic
login and signs a JWT for what was asked, good for some seconds; 401 `insufficient_scope` for a token that says less
than is wanted. The tokens are those that CNCF distribution's own token auth takes: test_registry.py shows them to it.

As a process, for containers that reach it by another name than localhost:
`python -m scripts.tests.tokens FOLDER NAME PORT BACKEND token|basic` (FOLDER/ca.pem is then the authority).
"""

import base64
import json
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key

SERVICE, ISSUER = "registry.example.test", "token.example.test"
_ROUTES = ("/manifests/", "/blobs/", "/tags/", "/referrers/")
_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "authorization"}
_BIT = 1 << 16


class Authority:
    """A certificate authority of the test's own; in a folder, so that a second process can go on with it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file, key = folder / "ca.pem", folder / "ca.key"
        if key.exists():
            self._ca = trustme.CA.from_pem(self.file.read_bytes(), key.read_bytes())
            return
        self._ca = trustme.CA()
        self.file.write_bytes(self._ca.cert_pem.bytes())
        key.touch(mode=0o600)
        key.write_bytes(self._ca.private_key_pem.bytes())

    def issue(self, *names: str) -> trustme.LeafCert:
        """A certificate for these host names or addresses, with its key."""
        return self._ca.issue_cert(*names)


class Tokens:
    """Signs and checks tokens as distribution's token auth takes them: ES256, with the certificate in the header."""

    def __init__(self, authority: Authority, lifetime: float = 300) -> None:
        leaf = authority.issue(ISSUER)
        self.lifetime = lifetime
        self._key = leaf.private_key_pem.bytes()
        self._chain = [
            base64.b64encode(ssl.PEM_cert_to_DER_cert(one.bytes().decode())).decode()
            for one in leaf.cert_chain_pems
        ]
        self._public = load_pem_private_key(self._key, None).public_key()

    def sign(self, user: str, scopes: list[str]) -> str:
        """A token of a user for scopes such as `repository:acme/shop:pull,push`."""
        now = int(time.time())
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ]
        said = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 5,
            "jti": uuid.uuid4().hex,
        }
        said |= {"exp": int(now + self.lifetime), "access": access}
        return jwt.encode(said, self._key, "ES256", headers={"x5c": self._chain})

    def allows(self, token: str, repository: str, action: str) -> bool:
        """Whether a token of ours that has not expired says that."""
        with suppress(jwt.PyJWTError):
            said = jwt.decode(token, self._public, ["ES256"], audience=SERVICE, issuer=ISSUER)
            return not repository or any(
                one["name"] == repository and action in one["actions"] for one in said["access"]
            )
        return False


@dataclass
class Door:
    """What stands before the registry at localhost:`backend`, and what tests do to it."""

    backend: int
    authority: Authority
    login: Literal["token", "basic"] = "token"
    names: tuple[str, ...] = ("localhost",)  # the first is the one in the token server's address
    users: dict[str, str] = field(default_factory=lambda: {"ada": "secret"})
    page: int = 0  # at most so many tags an answer, as GHCR has its own limit; 0: as many as asked
    spoil: Callable[[str, bytes], bytes] | None = None  # path, body -> what is answered instead
    forbids: str = ""  # an action that no user may do: 403
    port: int = 0
    realm: str = ""  # where the token server is, where it is not here
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = Tokens(self.authority)

    @property
    def host(self) -> str:
        return f"{self.names[0]}:{self.port}"

    def knows(self, header: str) -> str | None:
        """The user of a basic login, if it is right."""
        kind, _, word = header.partition(" ")
        with suppress(ValueError):
            name, _, password = base64.b64decode(word).decode().partition(":")
            if kind.lower() == "basic" and self.users.get(name) == password:
                return name
        return None

    @contextmanager
    def open(self, address: str = "127.0.0.1") -> Iterator["Door"]:
        """Stand there, at `port` or a free one, until the block ends."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue(*self.names).configure_cert(context)
        server = _Server((address, self.port), type("AtTheDoor", (_Handler,), {"door": self}))
        server.context = context
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    context: ssl.SSLContext
    daemon_threads = True

    def get_request(self) -> Any:
        connection, address = super().get_request()
        # The handshake comes with the first read, in the connection's own thread.
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that does not trust us


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as in fake_cluster
    door: Door

    def _do(self) -> None:
        self.door.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/token"):
            self._token()
        elif self._may():
            self._forward()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _do

    def log_message(self, *arguments: Any) -> None:
        pass

    def _token(self) -> None:
        if self.command != "GET":  # OAuth2, which clients try first, and which few registries have
            return self._say(405, {"details": "use GET"})
        user = self.door.knows(self.headers.get("Authorization", ""))
        if user is None:
            return self._say(401, {"details": "incorrect username or password"})
        scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
        return self._say(200, {"token": self.door.tokens.sign(user, scopes)})

    def _may(self) -> bool:
        path = urlsplit(self.path).path
        repository = next(
            (path.removeprefix("/v2/").split(route)[0] for route in _ROUTES if route in path), ""
        )
        action = "pull" if self.command in ("GET", "HEAD") else "push"
        told = self.headers.get("Authorization", "")
        if self.door.login == "basic":
            right, challenge = self.door.knows(told) is not None, f'Basic realm="{SERVICE}"'
        else:
            right = self.door.tokens.allows(told.removeprefix("Bearer "), repository, action)
            challenge = (
                f'Bearer realm="https://{self.door.realm or self.door.host}/token",service="{SERVICE}"'
            )
            if repository:
                challenge += f',scope="repository:{repository}:{"pull" if action == "pull" else "pull,push"}"'
            if told:
                challenge += ',error="insufficient_scope"'
        if not right:
            self._refuse(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})
        elif action == self.door.forbids:
            self._refuse(403, "DENIED", "requested access to the resource is denied", {})
        else:
            return True
        return False

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str]) -> None:
        self.close_connection = "chunked" in self.headers.get("Transfer-Encoding", "")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._say(status, {"errors": [{"code": code, "message": message, "detail": None}]}, headers)

    def _say(self, status: int, document: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _forward(self) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        headers |= {"Host": self.headers["Host"], "X-Forwarded-Proto": "https"}
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        body = self._chunks() if chunked else self._whole() if "Content-Length" in self.headers else None
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        connection = HTTPConnection("127.0.0.1", self.door.backend, timeout=60)
        try:
            connection.request(self.command, self._path(), body, headers, encode_chunked=chunked)
            self._pass_on(connection.getresponse())
        finally:
            connection.close()

    def _path(self) -> str:
        path, _, query = self.path.partition("?")
        if self.door.page and "/tags/list" in path:
            query = urlencode(dict(parse_qsl(query)) | {"n": str(self.door.page)})
        return f"{path}?{query}" if query else path

    def _pass_on(self, answer: HTTPResponse) -> None:
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP]
        spoilt = None
        if self.door.spoil and self.command == "GET" and answer.status == 200:
            spoilt = self.door.spoil(self.path, answer.read())
            headers = [(k, v) for k, v in headers if k.lower() != "content-length"]
            headers.append(("Content-Length", str(len(spoilt))))
        self.send_response_only(answer.status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers) and answer.status not in (
            204,
            304,
        ):
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if spoilt is not None:
            self.wfile.write(spoilt)
        while bit := answer.read(_BIT):
            self.wfile.write(bit)

    def _whole(self) -> Iterator[bytes]:
        left = int(self.headers["Content-Length"])
        while left and (bit := self.rfile.read(min(left, _BIT))):
            left -= len(bit)
            yield bit

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()


def main(folder: str, name: str, port: str, backend: str, login: Literal["token", "basic"]) -> None:
    """Stand before a registry on every address of this machine, until killed."""
    door = Door(int(backend), Authority(Path(folder)), login, names=(name,), port=int(port))
    with door.open("0.0.0.0"):  # noqa: S104 - containers reach it by the name of this host
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]


def log_in(home: Path, host: str, word: str = "secret") -> None:
    """docker login, as it writes the file where no helper is."""
    login = base64.b64encode(f"ada:{word}".encode()).decode()
    (home / "config.json").write_text(json.dumps({"auths": {host: {"auth": login}}}))
