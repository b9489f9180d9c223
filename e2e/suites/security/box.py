"""A throw-away container of the image under test, on this host's Docker daemon: for what a pod may not do.

It runs as root and has the network of a docker build, with the host's proxy. It is gone afterwards; what a
killed run left behind is removed by the next one for the same environment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docker.errors import ImageNotFound
from requests.exceptions import RequestException

from delivery.errors import DeliveryError
from delivery.parts import direct, docker, logins, tar
from delivery.parts.daemon import FAILURES, short
from e2e.suites.outcome import unknown
from e2e.suites.target import Target

LABEL = "delivery.throw-away"


@dataclass(frozen=True)
class Ended:
    """How the command ended, and what it said."""

    code: int
    output: str
    errors: str


def run(target: Target, command: Sequence[str], files: Mapping[str, bytes], seconds: float) -> Ended:
    """Run a command in a new container of the image that Git asks for, with these files beside it.

    Unknown, with the reason, where Docker does not answer or the command does not end in time.
    """
    try:
        daemon = docker.client(seconds=120)
    except DeliveryError as error:
        unknown(error.message)
    try:
        return _run(daemon, target, command, files, seconds)
    except FAILURES as error:
        unknown(f"Docker: {short(error)}")
    finally:
        daemon.close()


def _run(
    daemon: Any, target: Target, command: Sequence[str], files: Mapping[str, bytes], seconds: float
) -> Ended:
    owner = f"{LABEL}={target.context.site.name}/{target.environment.name}"
    # Nobody else's: tests of one environment wait for each other.
    for left in daemon.containers.list(all=True, filters={"label": owner}):
        left.remove(force=True, v=True)
    container = daemon.containers.create(
        _image(daemon, target),
        entrypoint=list(command[:1]),
        command=list(command[1:]),
        user="0:0",
        labels=dict([owner.split("=", 1)]),
        environment=direct.proxies(),
        network_mode="bridge",
    )
    try:
        container.put_archive("/", tar.pack(files))
        container.start()
        code = _wait(container, seconds)
        output, errors = (
            container.logs(stdout=not err, stderr=err).decode(errors="replace") for err in (False, True)
        )
        return Ended(code, output, errors)
    finally:
        container.remove(force=True, v=True)


def _image(daemon: Any, target: Target) -> str:
    """The local name of the image; pulled by its digest where this daemon did not build it."""
    repository = target.context.site.image
    name = repository.at(target.wanted.digest)
    try:
        daemon.images.get(name)
    except ImageNotFound:
        auth = logins.find(repository.host, repository.docker_config).for_docker
        for said in daemon.api.pull(
            repository.here, tag=target.wanted.digest, stream=True, decode=True, auth_config=auth
        ):
            if "error" in said:
                unknown(f"docker pull {name[:80]}: {_line(said['error'])}")
    return name


def _wait(container: Any, seconds: float) -> int:
    try:
        return int(container.wait(timeout=seconds)["StatusCode"])
    except RequestException:
        container.reload()
        if container.status == "running":
            unknown(f"what was asked of a container of the image took more than {seconds:.0f} s")
        raise


def _line(text: object) -> str:
    return " ".join(str(text).split())[:200]
