"""Public keys count as an administrator put them into the cluster, never as a commit brings them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery import roles
from delivery.build import image
from delivery.errors import DeliveryError, NotReached, PlatformError, Refused
from delivery.files import write_private
from delivery.parts import openpgp
from delivery.proof.decide import Verdict
from delivery.signed import keys
from delivery.verbs import approve as approving
from delivery.verbs import history as reading
from delivery.verbs import promote as promoting
from delivery.verbs import report as reporting
from delivery.verbs import rollback as rolling
from scripts.tests import signing
from scripts.tests.steps import bare_promote, deploy, prepare, promote, proofs, refused

if TYPE_CHECKING:
    from scripts.tests.fake_cluster import FakeCluster


@pytest.fixture
def ready(cluster: FakeCluster, built: image.Built) -> FakeCluster:
    """The image is in prod by keys that an administrator put there, and could be promoted and approved once more."""
    deploy(cluster)
    promote(cluster, "stage")
    promote(cluster, "prod")
    return cluster


def folder(cluster: FakeCluster) -> Path:
    return cluster.world.context.site.state / "keys"


def another(cluster: FakeCluster, name: str) -> None:
    """A commit brings a key of somebody's own for `name`, where the site says that its public key is."""
    signing.generate(folder(cluster) / name, f"the password of {name}")


def another_certificate(cluster: FakeCluster, name: str) -> None:
    secret, certificate = openpgp.generate(f"{name} <{name}@example.test>")
    write_private(folder(cluster) / f"{name}.pgp", secret)
    (folder(cluster) / f"{name}.asc").write_text(certificate)


def asked(cluster: FakeCluster, verb: str, digest: str) -> Callable[[], object]:
    """One of the verbs that bring something into prod, or allow it, about the digest that is there."""
    context = cluster.world.context
    prod = context.environment("prod")
    ways: dict[str, Callable[[], object]] = {
        "promote": lambda: bare_promote(cluster, "prod"),
        "approve": lambda: approving.run(context, prod, None),
        "rollback": lambda: rolling.rollback(context, prod, digest),
    }
    return ways[verb]


@pytest.mark.parametrize("name", ["build", "stage", "gate-prod", "approver"])
@pytest.mark.parametrize("verb", ["promote", "approve"])
def test_a_key_that_a_commit_brought(ready: FakeCluster, built: image.Built, verb: str, name: str) -> None:
    """Somebody pushes a key of his own in another's place: each verb refuses, names whose, and says who may do that."""
    another(ready, name)
    says = f"the cluster of prod: ConfigMap public-keys has another key of {name}(;|$)"
    error = refused(ready, Refused, says, asked(ready, verb, built.digest))
    if verb == "approve":
        assert "delivery policy" in error.hint


def test_evidence_by_a_key_of_ones_own(cluster: FakeCluster, built: image.Built) -> None:
    """I swap dev's key in the push, and sign with mine that all tests passed: it counts for nothing."""
    cluster.guard()  # an administrator was there before
    deploy(cluster)
    another(cluster, "dev")
    prepare(cluster, "stage")
    says = "ConfigMap public-keys has another key of dev"
    refused(cluster, Refused, says, lambda: bare_promote(cluster, "stage"))


def test_a_gate_s_certificate_that_a_commit_brought(ready: FakeCluster) -> None:
    """The OpenPGP certificate of a gate is another one: no commit that it signed is believed."""
    another_certificate(ready, "gate-prod")
    says = "has another key of gate-prod for commits"
    for ask in (
        lambda: bare_promote(ready, "prod"),
        lambda: approving.run(ready.world.context, ready.world.context.environment("prod"), None),
    ):
        refused(ready, Refused, says, ask)


def test_rollback_asks_too(ready: FakeCluster, built: image.Built) -> None:
    """A rollback rests on entries: by another key than the cluster's it finds none that counts."""
    context = ready.world.context
    another(ready, "stage")
    error = refused(
        ready,
        Refused,
        "prod stays as it is: the cluster of prod: ConfigMap public-keys has another key of stage",
        lambda: rolling.rollback(context, context.environment("prod"), built.digest),
    )
    assert error.hint == keys.REMEDY


def test_verify_and_status_say_it(ready: FakeCluster) -> None:
    """The proof says whose key is another one, in each guarded environment, and so does the outlook."""
    another(ready, "stage")
    found = proofs(ready)
    line = "a lock is off: ConfigMap public-keys has another key of stage"
    assert {name for name, one in found.items() if line in one.mismatches} == {"stage", "prod"}
    ahead = {one.environment: one.decision for one in reporting.status(ready.world.context).ahead}
    assert any("has another key of stage" in one for one in ahead["prod"].refusals)
    assert not ahead["stage"].allowed


def test_dry_run_says_it(ready: FakeCluster) -> None:
    """What a promotion would say, its preview says."""
    another(ready, "stage")
    context = ready.world.context
    decision = promoting.preview(context, context.environment("prod")).decision
    assert any("has another key of stage" in one for one in decision.refusals)


@pytest.mark.parametrize("verb", ["promote", "approve", "rollback"])
def test_nobody_put_them_there(ready: FakeCluster, built: image.Built, verb: str) -> None:
    """The cluster has no such ConfigMap: nothing counts, and I read that an administrator applies the policies."""
    ask = asked(ready, verb, built.digest)
    ready.guard()["ConfigMap"].pop(roles.KEYS)
    refused(ready, Refused, "the cluster of prod: ConfigMap public-keys is not there", ask)
    assert proofs(ready)["prod"].verdict is Verdict.MISMATCH


@pytest.mark.parametrize(
    ("verb", "kind"), [("promote", NotReached), ("approve", Refused), ("rollback", PlatformError)]
)
def test_they_cannot_be_read(
    ready: FakeCluster, built: image.Built, verb: str, kind: type[DeliveryError]
) -> None:
    """Who may not read them does not know whose keys count, and what is not known passes nowhere."""
    ask = asked(ready, verb, built.digest)
    ready.denied = {roles.KEYS}
    refused(ready, kind, "whose keys count in prod is not known: .*public-keys is forbidden", ask)


def test_a_signer_that_an_administrator_does_not_know(ready: FakeCluster) -> None:
    """A commit names one more signer: until an administrator has put the key there, it is nobody's."""
    del ready.guard()["ConfigMap"][roles.KEYS]["data"]["approver.pub"]
    says = "ConfigMap public-keys has no key of approver"
    refused(ready, Refused, says, lambda: bare_promote(ready, "prod"))


def test_white_space_is_no_other_key(ready: FakeCluster) -> None:
    """An editor ended the file otherwise: it is the same key."""
    file = folder(ready) / "stage.pub"
    file.write_text(file.read_text().strip() + "\n\n")
    assert proofs(ready)["prod"].verdict is Verdict.PROVEN


def test_a_site_that_says_it_was_made_here(ready: FakeCluster) -> None:
    """A commit cannot get around it by what it says of the site."""
    another(ready, "stage")
    ready.world = ready.world.on(made_here=True)
    says = "has another key of stage"
    refused(ready, Refused, says, lambda: bare_promote(ready, "prod"))


def test_history_says_by_which_keys(ready: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """History reads Git by the keys of the checkout, and says which."""
    from delivery.show import history as show

    site = ready.world.context.site
    told = reading.history(ready.world.context, 10)
    assert told.keys == {
        one: openpgp.key_id(keys.commit_certificate(site, f"gate-{one}")) for one in ("stage", "prod")
    }
    show.print_history(told)
    assert re.search(f"stage by {told.keys['stage']}", " ".join(capsys.readouterr().out.split()))
