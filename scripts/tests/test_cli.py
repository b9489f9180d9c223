"""What a user meets: every error is one line, one hint and its exit code; help is quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from delivery import cli
from delivery.build import image
from delivery.errors import BadInput, DeliveryError, NotReached, PlatformError, Refused
from delivery.proof import observe
from scripts.tests.world import leads

if TYPE_CHECKING:
    from scripts.tests.world import World


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `delivery` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["delivery", *arguments])
    monkeypatch.setenv("DELIVERY_SITE", os.environ.get("DELIVERY_SITE", "team"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def away(world: World) -> None:
    """Nothing of the team's site answers."""
    leads(world.checkout.parent / "gitconfig", "http://127.0.0.1:1/none.git")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("promote qa", 2, "there is no environment 'qa'"),
        ("verify qa", 2, "there is no environment 'qa'"),
        ("promote", 2, "Missing argument 'ENV'"),
        ("promote dev", 2, "dev gets its digests from the build"),
        ("promote prod --digest 15", 2, "'15' is not a digest"),
        ("promote prod stage", 2, "unexpected extra argument"),
        ("deploy --digest latest", 2, "'latest' is not a digest"),
        ("build --number 0", 2, "greater than or equal to 1"),
        ("build --number many", 2, "valid integer"),
        ("verify --format yaml", 2, "yaml"),
        ("ship", 2, "No such command 'ship'"),
        ("test", 2, "Missing argument 'ENV'"),
        ("test qa", 2, "there is no environment 'qa'"),
        ("test dev --suite load", 2, "there is no suite 'load'"),
        ("test dev", 3, "dev does not run what Git asks for"),
        ("approve qa", 2, "there is no environment 'qa'"),
        ("approve dev", 2, "dev needs no approval"),
        ("approve prod --as boss", 2, "there is no approver 'boss'"),
        ("approve prod", 4, "git fetch"),
        ("rollback qa", 2, "there is no environment 'qa'"),
        ("history qa", 2, "there is no environment 'qa'"),
        ("history --limit 0", 2, "greater than or equal to 1"),
        ("history --since yesterday", 2, "yesterday"),
        ("history --format yaml", 2, "yaml"),
        ("history dev --metrics", 2, "dev has no gate"),
        ("history --metrics --format csv", 2, "the figures are no table"),
        ("rollback prod --digest 15", 2, "'15' is not a digest"),
        ("rollback prod", 4, "kubeconfig is missing"),
        ("promote stage --dry-run", 4, "kubeconfig is missing"),
        ("verify --force", 2, "--force"),
        ("promote stage", 4, "kubeconfig is missing"),
        ("deploy", 4, "registry localhost:1 does not answer"),
        ("verify", 3, "UNKNOWN"),
        ("report", 4, "git fetch"),
        ("report --port 8090", 2, "--port is for a page that is served"),
        ("report --serve --port 65536", 2, "less than or equal to 65535"),
        ("report --serve --output page.html", 2, "a page that is served is not written"),
        ("report --serve --format json", 2, "a page that is served is not written"),
        ("verify prod", 3, "UNKNOWN: not everything could be read (prod)"),
    ],
)
def test_errors(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    code: int,
    says: str,
) -> None:
    """Bad input gets one line, a hint and its exit code, and nothing is written."""
    away(world)
    before = world.head()
    assert run(monkeypatch, *arguments.split()) == code
    said = capsys.readouterr().err.splitlines()
    assert says in said[-2]
    assert said[-2].startswith("error: ")
    assert said[-1].startswith("hint: ")
    assert "Traceback" not in "\n".join(said)
    assert world.head() == before


@pytest.mark.parametrize(
    ("arguments", "code", "says", "hint"),
    [
        ("--site local verify", 4, "site local is not up", "start it: delivery up"),
        ("--site e2e verify", 4, "site e2e is not up", "start it: delivery up"),
        ("--site none verify", 2, "there is no site 'none'", "one of: local, e2e, "),
    ],
)
def test_which_site(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    code: int,
    says: str,
    hint: str,
) -> None:
    """A site that nobody knows or that is not up is named."""
    assert run(monkeypatch, *arguments.split()) == code
    said = capsys.readouterr().err.splitlines()
    assert says in said[-2]
    assert hint in said[-1]


def test_dirty_tree(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """build refuses a dirty tree."""
    (world.checkout / "manual-app" / "draft.py").write_text("1")
    assert run(monkeypatch, "build") == 2
    assert "dirty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (Refused("no", "h"), 1, "error: no"),
        (BadInput("what", "h"), 2, "error: what"),
        (NotReached("late", "h"), 3, "error: late"),
        (PlatformError("down", "h"), 4, "error: down"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (ZeroDivisionError("division\nby zero"), 4, "error: ZeroDivisionError: division by zero"),
        (RecursionError(), 4, "error: RecursionError: no reason given"),
    ],
)
def test_exit_codes(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    says: str,
) -> None:
    """Refused is 1, bad input 2, not reached 3, the platform 4, Ctrl-C 130; a bug is one line, too."""

    def fails(*arguments: object) -> None:
        raise raised

    monkeypatch.setattr(image, "build", fails)
    assert run(monkeypatch, "build") == code
    said = capsys.readouterr().err.splitlines()
    assert said[0] == says
    assert said[1].startswith("hint: ")
    assert len(said) == 2


def test_every_error_has_its_code() -> None:
    """No kind of error goes without one of the exit codes that are promised."""

    def kinds(kind: type[DeliveryError]) -> set[type[DeliveryError]]:
        return {kind}.union(*(kinds(one) for one in kind.__subclasses__()))

    assert {kind.exit_code for kind in kinds(DeliveryError)} == {1, 2, 3, 4}


def test_verify_as_json(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """verify prints one JSON document, also when the verdict is not PROVEN."""
    away(world)
    assert run(monkeypatch, "verify", "--format", "json") == 3
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "delivery/proof/v2"
    assert document["site"] == "team"
    assert document["verdict"] == "UNKNOWN"
    assert [one["environment"] for one in document["environments"]] == ["dev", "stage", "prod"]
    assert all(one["unknowns"] for one in document["environments"])


def test_build_as_json(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CI reads the digest out of it: the same five facts, whatever else is known of the image."""
    built = image.Built(
        "sha256:" + "a" * 64,
        "15",
        "1.0.0",
        "c" * 40,
        platforms=frozenset({"linux/amd64"}),
        children=frozenset(),
    )
    monkeypatch.setattr(image, "build", lambda *arguments: built)
    assert run(monkeypatch, "build", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    facts = {"digest": built.digest, "build": "15", "version": "1.0.0", "revision": "c" * 40, "new": False}
    assert document == {"schema": "delivery/build/v1", **facts}


def test_nobody_is_asked_about_an_unknown_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error does not reach the cluster."""
    monkeypatch.setattr(observe, "observe", lambda *arguments: pytest.fail("the cluster was asked"))
    assert run(monkeypatch, "verify", "pord") == 2


def test_help_is_quick() -> None:
    """`delivery --help` loads no client of Docker, Kubernetes, Helm or the registry."""
    code = (
        "import sys; from delivery import cli; sys.argv = ['delivery', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'docker', 'kubernetes', 'pyhelm3', 'httpx', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_docker_says_is_no_bug_of_ours(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Docker that fails where nobody expected it is said as Docker's error; another exception is a bug."""
    from docker.credentials.errors import StoreError
    from docker.errors import APIError
    from urllib3.exceptions import ProtocolError

    from delivery.parts import daemon

    assert daemon.typed(RuntimeError("x")) is None
    for error, says in (
        (
            APIError("500 Server Error", explanation="no space\nleft on device"),
            "error: docker: no space left",
        ),
        (ProtocolError("Connection broken"), "error: docker: Connection broken"),
        (StoreError("docker-credential-x not installed"), "error: docker-credential-x, which "),
    ):
        monkeypatch.setattr(
            observe, "observe_by", lambda *arguments, error=error: (_ for _ in ()).throw(error)
        )
        assert run(monkeypatch, "verify", "dev") == 4
        said = capsys.readouterr().err
        assert says in said
        assert "bug in delivery" not in said
