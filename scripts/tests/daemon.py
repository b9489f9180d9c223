"""A Docker daemon played by a local server: what the real ones said, by path."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest

from scripts.tests.fake_cluster import Answering, serving


@dataclass
class Daemon:
    """Its answers, (status, document) by the API's path; what is not there is not found. `asked` is what was asked."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    slow: dict[str, float] = field(default_factory=dict)  # path -> seconds before it answers

    def has(self, name: str, architecture: str = "amd64", **attributes: Any) -> None:
        """An image under a name, as `docker inspect` shows it."""
        image = {"Id": f"sha256:{'e' * 64}", "Architecture": architecture, "Config": {}, **attributes}
        self.answers[f"/images/{name}/json"] = (200, image)

    def about(self, **info: Any) -> None:
        """What `docker info` says."""
        self.answers["/info"] = (200, info)


class Handler(Answering):
    daemon: Daemon

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        path = path[path.index("/", 1) :] if path.startswith("/v1.") else path
        self.daemon.asked.append(path)
        time.sleep(self.daemon.slow.get(path, 0))
        status, document = self.daemon.answers.get(path, (404, {"message": f"no such thing: {path}"}))
        self.write(status, json.dumps(document).encode())

    do_POST = do_DELETE = do_GET


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon on amd64 without any image, to which DOCKER_HOST points."""
    played = Daemon()
    played.answers["/version"] = (
        200,
        {"Version": "29.0", "ApiVersion": "1.44", "Os": "linux", "Arch": "amd64"},
    )
    with serving(type("PlayedDaemon", (Handler,), {"daemon": played})) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT"):
            monkeypatch.delenv(name, raising=False)
        yield played
