"""Nobody takes a lock away in the push that walks through it: the rules by which prod was last entered hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from delivery import pipeline as pipelines
from delivery import roles
from e2e.conftest import Build
from e2e.delivery import Checkout

VALUES = "manual-app-helm/values-prod.yaml"
NEWS = "\nreplicas: 3\n"  # what prod gets in the same push: a release that nobody has let in yet
SUITES, ONE = "requires: [smoke, integration, performance, security]", "requires: [smoke]"
FREEZE = '    freeze: [{ from: "0 0 1 1 *", zone: UTC, hours: 1, reason: the new year }]\n'
Rules = Callable[[str], str]


def without_approval(text: str) -> str:
    start, end = text.index("    approval: #"), text.index("    freeze: [] #")
    return text[:start] + text[end:]


def admitting_more(text: str) -> str:
    before, prod = text.split("  - name: prod\n")
    return f"{before}  - name: prod\n{replaced('admits: tested', 'admits: pinned')(prod)}"


def replaced(old: str, new: str) -> Rules:
    def change(text: str) -> str:
        assert text.count(old) == 1, old
        return text.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_approval, "prod would be entered with fewer approvals"),
        (replaced(SUITES, ONE), "does not require integration, performance, security"),
        (admitting_more, "prod would admit pinned"),
        (
            replaced("identity: approver@localhost", "identity: dev@example.org"),
            "prod could be approved by dev@example.org, too",
        ),
    ],
    ids=["approval", "suites", "admits", "approvers"],
)
def test_a_lock_goes_in_the_push_that_walks_through_it(
    platform: Checkout, prod: Build, change: Rules, says: str
) -> None:
    """I push what prod shall get, and with it a pipeline.yaml that asks for less: refused, and I read which rule."""
    with pushed(platform, change):
        before = platform.main()
        refused = platform.delivery("promote", "prod", expect=1).error
        assert "the rules of prod became weaker since" in refused
        assert says in refused
        assert platform.main() == before
        assert len(platform.pods("prod")) == 2


def test_those_who_approve_may_change_the_rules(platform: Checkout, prod: Build) -> None:
    """Fewer suites and a new freeze enter with the approval of before; without the freeze it is asked again."""

    def changed(text: str) -> str:
        start, end = text.index("    freeze: [] #"), text.index("\napprovers: #")
        return replaced(SUITES, ONE)(text[:start] + FREEZE + text[end:])

    try:
        with pushed(platform, changed):
            assert "does not require" in platform.delivery("promote", "prod", expect=1).error
            asked = platform.delivery("approve", "prod")
            assert f"-      {SUITES}" in asked.out
            platform.delivery("promote", "prod")
            assert len(platform.pods("prod")) == 3
        with pushed(platform, lambda text: f"{text}# no freeze any more\n"):
            refused = platform.delivery("promote", "prod", expect=1)
            assert "prod would be entered in times that are frozen now" in refused.error
    finally:
        platform.delivery("approve", "prod")
        platform.delivery("promote", "prod")
    assert len(platform.pods("prod")) == 2
    platform.delivery("verify", "prod")


def test_a_rollback_brings_no_rules_into_force(platform: Checkout, prod: Build) -> None:
    """I push rules that ask for less, and have prod roll back to what it runs: the rules of before still hold."""
    with pushed(platform, without_approval):
        platform.delivery("rollback", "prod", "--digest", prod.digest)
        assert "would be entered with fewer approvals" in platform.delivery("promote", "prod", expect=1).error


def test_the_keys_are_the_platforms(platform: Checkout, prod: Build) -> None:
    """Who may run the verbs reads whose keys count, and puts no other there; without them nothing enters."""
    home = roles.home(platform.app)
    deployer = roles.acting(roles.deployer(platform.app))
    named = ("-n", home, "configmap", roles.KEYS)
    has = platform.get(*named)
    platform.kubectl(*deployer, "get", *named)
    for who in (deployer, ()):  # an administrator says first that it keeps the platform
        assert platform.kubectl(*who, "delete", *named, check=False).returncode
        mine = ("--type=merge", '--patch={"data":{"stage.pub":"mine"}}')
        assert platform.kubectl(*who, "patch", *named, *mine, check=False).returncode
    try:
        platform.kubectl(*roles.AS_PLATFORM, "delete", *named)
        why = f"ConfigMap {roles.KEYS} is not there"
        for verb in ("promote", "approve"):
            refused = platform.delivery(verb, "prod", expect=1)
            assert f"the cluster of prod: {why}" in refused.error
        assert f"a lock is off: {why}" in platform.delivery("verify", "prod", expect=1).out
    finally:
        fresh = {key: has["metadata"][key] for key in ("name", "namespace")}
        platform.apply({**has, "metadata": fresh}, *roles.AS_PLATFORM)
    platform.delivery("verify", "prod")


@contextmanager
def pushed(platform: Checkout, change: Rules) -> Iterator[None]:
    """Other rules, and one more replica for prod, are on the server's main while the block runs."""
    platform.pull()
    before = {name: (platform.path / name).read_text(encoding="utf-8") for name in (pipelines.FILE, VALUES)}
    after = {pipelines.FILE: change(before[pipelines.FILE]), VALUES: before[VALUES] + NEWS}
    _push(platform, after, "One replica more, and less to ask")
    try:
        yield
    finally:
        platform.pull()
        _push(platform, before, "As it was")


def _push(platform: Checkout, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (platform.path / name).write_text(text, encoding="utf-8")
    platform.commit(message)
    platform.push(f"HEAD:{platform.branch}")
