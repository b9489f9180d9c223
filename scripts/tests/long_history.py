"""A history of many promotions into prod, made in seconds: commits that the gate signed, and the ledger about them.

Every signature is a real one. Only the programs are left out that would make each: the objects are written as git does,
and each key is read once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from delivery.parts import dsse, openpgp
from delivery.signed import evidence, keys, ledger, statements
from scripts.tests.signing import PAYLOAD_TYPE

if TYPE_CHECKING:
    from delivery.context import Context
    from scripts.tests.world import World

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHO = "Ada <ada@example.test>"


class Signer:
    """Somebody who signs statements, with the key read once."""

    def __init__(self, context: Context, name: str) -> None:
        key, self._image = keys.private(context.site, name), context.site.image.name
        text = Path(key.reference).read_bytes()
        loaded = serialization.load_pem_private_key(text, key.password().encode())
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded

    def sign(self, digest: str, kind: str, predicate: dict[str, Any]) -> tuple[str, str]:
        """The envelope on one line, and the hash of what was signed."""
        subject = {"name": self._image, "digest": {"sha256": digest.removeprefix("sha256:")}}
        document = {
            "_type": statements.STATEMENT,
            "subject": [subject],
            "predicateType": kind,
            "predicate": predicate,
        }
        payload = json.dumps(document).encode()
        signature = self._key.sign(dsse.encoding(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
        envelope = {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        }
        return json.dumps(envelope), hashlib.sha256(payload).hexdigest()


class Objects:
    """Where the objects of a repository go."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def put(self, kind: str, content: bytes) -> str:
        """Write an object as git does, loose; its id."""
        stored = b"%s %d\0" % (kind.encode(), len(content)) + content
        name = hashlib.sha1(stored, usedforsecurity=False).hexdigest()
        file = self._repository / "objects" / name[:2] / name[2:]
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(zlib.compress(stored, 1))
        return name

    def tree(self, entries: dict[str, str], mode: str = "100644") -> str:
        """A folder of files, or of folders."""
        lines = (f"{mode} {name}\0".encode() + bytes.fromhex(one) for name, one in sorted(entries.items()))
        return self.put("tree", b"".join(lines))


@dataclass(frozen=True)
class Step:
    """One promotion into prod: how its test ended, whose key approved, whom the commit names, what the ledger keeps."""

    result: str = "PASSED"
    approves: str = "approver"
    names: str = "the approver of pipeline.yaml"
    requested_by: str = WHO
    form: str = "promotion"
    keeps: tuple[str, ...] = ("test", "approval", "entry")


def make(world: World, steps: Iterable[Step], tests: int = 100) -> list[str]:
    """Add these promotions into prod to the server, an hour apart, each of a new digest: their commits.

    Each test that they rest on names `tests` tests.
    """
    context, objects = world.context, Objects(world.server)
    prod, stage = context.environment("prod"), context.environment("stage")
    by = {name: Signer(context, name) for name in ("stage", "gate-prod", "approver")}
    secret = keys.commit_key(context.site, prod.gate)
    [person] = context.pipeline.approvers
    parent, tree = world.head(), world.git(world.server, "rev-parse", "main^{tree}")
    before, made, files = "none", [], {}
    for number, step in enumerate(steps):
        at = BEGAN + number * HOUR
        source = _commit(objects, tree, parent, at - HOUR / 2, f"source {number}\n")
        digest = named(number)
        test, proof = by["stage"].sign(
            digest, statements.TEST_RESULT, _test(stage.name, tests) | {"result": step.result}
        )
        used = hashlib.sha256(proof.encode()).hexdigest()
        said = _approval(person.identity, used, at)
        approval, yes = by[step.approves].sign(digest, statements.APPROVAL, said)
        trailers = {
            "Environment": "prod",
            "Build": str(number + 1),
            "Digest-Before": before,
            "Digest-After": digest,
            "Source-Revision": source,
            "Promoted-From": "stage",
            "Evidence": f"sha256:{used}",
            "Approved-By": person.identity if step.names == Step.names else step.names,
            "Requested-By": step.requested_by,
        }
        message = f"prod: build {number + 1}\n\n" + "".join(
            f"{key}: {value}\n" for key, value in trailers.items()
        )
        parent = _commit(objects, tree, source, at, message, secret)
        entry = _entry(context, digest, parent, (proof, yes), at)
        entry["entry"]["form"] = step.form
        entered, _ = by["gate-prod"].sign(digest, statements.ENTRY, entry)
        texts = {"test": test, "approval": approval, "entry": entered}
        if step.keeps:
            kept = "".join(f"{texts[one]}\n" for one in step.keeps)
            files[parent] = objects.put("blob", kept.encode())
        made.append(parent)
        before = digest
    book = objects.tree({"entered": objects.tree({"prod": objects.tree(files)}, "40000")}, "40000")
    world.git(world.server, "update-ref", "refs/heads/main", parent)
    world.git(
        world.server, "update-ref", f"refs/heads/{ledger.BRANCH}", _commit(objects, book, "", BEGAN, "all\n")
    )
    subprocess.run(["git", "-C", str(world.server), "repack", "-adq"], check=True)
    return made


def named(number: int) -> str:
    """The digest of that build."""
    return f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"


def rewrite(world: World, commit: str, change: Callable[[list[str]], list[str]], of: str = "") -> None:
    """Write other lines into the ledger about a change, as whoever may push there; they begin as those of `of`."""
    objects, name = Objects(world.server), f"entered/prod/{commit}"
    book = f"refs/heads/{ledger.BRANCH}"
    lines = world.git(world.server, "show", f"{book}:entered/prod/{of or commit}").splitlines()
    text = "".join(f"{one}\n" for one in change(lines))
    index = {**os.environ, "GIT_INDEX_FILE": str(world.server.parent / "index")}
    for command in (
        ["read-tree", book],
        ["update-index", "--add", "--cacheinfo", f"100644,{objects.put('blob', text.encode())},{name}"],
    ):
        subprocess.run(["git", "-C", str(world.server), *command], check=True, env=index)
    said = subprocess.run(
        ["git", "-C", str(world.server), "write-tree"], check=True, env=index, capture_output=True, text=True
    )
    world.git(
        world.server, "update-ref", book, _commit(objects, said.stdout.strip(), "", BEGAN, "rewritten\n")
    )


def _commit(objects: Objects, tree: str, parent: str, at: datetime, message: str, secret: str = "") -> str:
    when = f"{WHO} {int(at.timestamp())} +0000"
    head = f"tree {tree}\n" + (f"parent {parent}\n" if parent else "") + f"author {when}\ncommitter {when}\n"
    signature = ""
    if secret:
        armored = openpgp.sign(secret, f"{head}\n{message}".encode()).rstrip("\n")
        signature = "gpgsig " + armored.replace("\n", "\n ") + "\n"
    return objects.put("commit", f"{head}{signature}\n{message}".encode())


def _test(environment: str, count: int) -> dict[str, Any]:
    """What a passed run says, with that many tests."""
    names = [f"integration/test_orders.py::test_number_{number}" for number in range(count)]
    when = BEGAN.isoformat()
    run = evidence.Run(
        environment=environment,
        application=f"manual-app-{environment}",
        revision="c" * 40,
        suites={"smoke": "PASSED", "integration": "PASSED"},
        expected=tuple(names),
        excused=(),
        reasons=(),
        pods=evidence.Pods(before=(), after=()),
        startedOn=when,
        finishedOn=when,
    )
    told = {"suites": {"gitTree": "d" * 40}, "chart": {"sha256": "e" * 64}}
    told |= {f"values-{environment}.yaml": {"sha256": "e" * 64}, "manifests": {"sha256": "e" * 64}}
    return {
        "result": "PASSED",
        "configuration": [{"name": name, "digest": one} for name, one in told.items()],
        "passedTests": names,
        "warnedTests": [],
        "failedTests": [],
        "run": run.model_dump(mode="json"),
    }


def _approval(identity: str, used: str, at: datetime) -> dict[str, Any]:
    nothing = {"sha256": "e" * 64}
    change = {"file": "values-prod.yaml", **dict.fromkeys(("values", "chart", "manifests", "rules"), nothing)}
    return {
        "environment": "prod",
        "approver": identity,
        "approvedOn": at.isoformat(),
        "evidence": {"sha256": used},
        "change": change,
    }


def _entry(
    context: Context, digest: str, commit: str, inputs: tuple[str, ...], at: datetime
) -> dict[str, Any]:
    nothing = {"sha256": "e" * 64}
    return {
        "timeVerified": at.isoformat(),
        "resourceUri": f"{context.site.image.name}@{digest}",
        "policy": {"uri": "pipeline.yaml", "digest": nothing},
        "inputAttestations": [{"digest": {"sha256": one}} for one in inputs],
        "verificationResult": "PASSED",
        "entry": {
            "environment": "prod",
            "commit": commit,
            "change": commit,
            "manifests": nothing,
            "form": "promotion",
        },
    }
