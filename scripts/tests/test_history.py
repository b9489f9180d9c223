"""`delivery history`: every line is held against what was signed about it, and says so where it does not hold."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from delivery import cli
from delivery.parts import git
from delivery.show import history as show
from delivery.signed import ledger, trail
from delivery.signed.trail import State
from delivery.verbs import history as verb
from delivery.verbs import rollback as rolling
from scripts.tests.long_history import BEGAN, HOUR, Step, make, named, rewrite
from scripts.tests.steps import bare_promote, deploy, prepare, promote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from delivery.build import image
    from scripts.tests.fake_cluster import FakeCluster
    from scripts.tests.world import World


@pytest.fixture
def signed(world: World, signers: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world with the keys of everybody, and with no registry and no cluster that would answer."""
    monkeypatch.setenv("DELIVERY_SITE", "team")
    shutil.copytree(signers, world.context.site.state / "keys")
    return world


def lines(world: World, **options: Any) -> list[trail.Line]:
    """The history of prod by Git and the ledger."""
    context = world.context
    return list(trail.read(context, [context.environment("prod")], **options).lines)


def told(world: World) -> list[tuple[str, tuple[str, ...]]]:
    """What holds of each line, oldest first."""
    return [(str(one.state), one.held.reasons) for one in reversed(lines(world))]


def ran(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `delivery history` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["delivery", "history", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


VERIFIED: tuple[str, tuple[str, ...]] = ("VERIFIED", ())


def test_a_line_says_what_was_signed(signed: World) -> None:
    """Each line has digests, entry, evidence, approver and lead time, all verified; no registry is asked."""
    commits = make(signed, [Step()] * 3)
    newest, middle, first = lines(signed)
    assert [one.record.commit for one in (first, middle, newest)] == commits
    assert {one.state for one in (newest, middle, first)} == {State.VERIFIED}
    assert (newest.build_before, newest.record.build) == ("2", "3")
    assert (first.build_before, first.record.before) == ("", "none")
    assert (middle.record.before, middle.record.after) == (named(0), named(1))
    [person] = signed.context.pipeline.approvers
    assert newest.held.approvers == (person.identity,)
    assert len(newest.held.tests) == 1
    assert len(newest.held.entry) == 64
    assert newest.lead == timedelta(minutes=30)
    assert newest.at == BEGAN + 2 * HOUR


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (Step(result="FAILED"), "it rests on a test that FAILED"),
        (Step(names="mallory@example.test"), "its commit names other approvers than its entry"),
        (Step(names=""), "its commit names other approvers than its entry"),
        (Step(approves="stage"), "what its entry rests on is not there: sha256:"),
        (Step(approves="gate-prod"), "what its entry rests on is not there: sha256:"),
        (Step(form="rollback"), "its entry is that of a rollback"),
        (Step(keeps=("test", "entry")), "what its entry rests on is not there: sha256:"),
        (Step(keeps=("approval", "entry")), "what its entry rests on is not there: sha256:"),
        (Step(keeps=("test", "approval")), "no entry of gate-prod names it"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_does_not_hold_is_broken(signed: World, step: Step, says: str) -> None:
    """A line whose entry, evidence or approval is not what the commit says is BROKEN with why; its neighbours hold."""
    make(signed, [Step(), step, Step()])
    first, (state, reasons), last = told(signed)
    assert (first, last) == (VERIFIED, VERIFIED)
    assert state == "BROKEN"
    assert reasons[0].startswith(says)


def _payload(kind: str, change: Callable[[bytes], bytes]) -> Callable[[list[str]], list[str]]:
    """The lines, with the payload of that kind changed after it was signed."""

    def changed(all_: list[str]) -> list[str]:
        found = []
        for text in all_:
            envelope = json.loads(text)
            payload = base64.b64decode(envelope["payload"])
            if kind in json.loads(payload)["predicateType"]:
                envelope["payload"] = base64.b64encode(change(payload)).decode()
                assert base64.b64decode(envelope["payload"]) != payload
            found.append(json.dumps(envelope))
        return found

    return changed


@pytest.mark.parametrize(
    ("kind", "old", "new", "says"),
    [
        ("verification_summary", b'"timeVerified": "2026', b'"timeVerified": "2025', "no entry of gate-prod"),
        ("test-result", b'"result": "PASSED"', b'"result": "FAILED"', "what its entry rests on is not there"),
        (
            "approval",
            b'"environment": "prod"',
            b'"environment": "qa"',
            "what its entry rests on is not there",
        ),
    ],
)
def test_what_was_changed_after_it_was_signed(
    signed: World, kind: str, old: bytes, new: bytes, says: str
) -> None:
    """Whoever writes the ledger changes no word of what was signed: the line is BROKEN, and says why."""
    first, _ = make(signed, [Step()] * 2)
    rewrite(signed, first, _payload(kind, lambda payload: payload.replace(old, new)))
    (state, reasons), other = told(signed)
    assert (state, other) == ("BROKEN", VERIFIED)
    assert reasons[0].startswith(says)
    assert any("was changed after it was signed" in one for one in reasons)


def test_what_was_signed_about_another_change(signed: World) -> None:
    """Good statements about one digest make nothing of another: the line is BROKEN."""
    first, second = make(signed, [Step()] * 2)
    rewrite(signed, first, lambda all_: all_, of=second)
    (state, reasons), other = told(signed)
    assert (state, other) == ("BROKEN", VERIFIED)
    assert "an attestation is about another digest" in reasons


@pytest.mark.parametrize(
    "text", ["", "nonsense", "{}", '{"payload": "!", "payloadType": "x", "signatures": []}']
)
def test_a_ledger_that_is_no_ledger(signed: World, text: str) -> None:
    """Whatever stands there: a line that does not hold, and no crash."""
    [only] = make(signed, [Step()])
    rewrite(signed, only, lambda _: [text])
    [(state, reasons)] = told(signed)
    assert (state, reasons[0]) == ("BROKEN", "no entry of gate-prod names it")


def claim(world: World, date: str = "", **trailers: str) -> str:
    """A commit that says of itself that it is a promotion into prod; nobody's gate signed it."""
    clone = world.clone("mallory")
    said = {
        "Environment": "prod",
        "Build": "9",
        "Digest-After": named(9),
        "Requested_By": "Mallory",
    } | trailers
    text = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in said.items())
    made_up = ["--date", date] if date else []
    world.git(clone, "commit", "--quiet", "--allow-empty", *made_up, "-m", f"prod: build 9\n\n{text}")
    world.git(clone, "push", "--quiet", "origin", "main")
    return world.git(clone, "rev-parse", "HEAD")


def test_a_claim_that_no_gate_signed(
    signed: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A commit that claims to be a promotion is shown as BROKEN, and `history` exits 1; nothing counts for it."""
    make(signed, [Step()])
    forged = claim(signed)
    assert told(signed) == [VERIFIED, ("BROKEN", ("gate-prod did not sign its commit",))]
    assert ran(monkeypatch, "--no-clusters") == 1
    said = capsys.readouterr()
    assert f"BROKEN: {forged[:12]}: gate-prod did not sign its commit" in said.out
    assert said.err.splitlines()[0] == "error: BROKEN: 1 line does not hold"
    assert said.err.splitlines()[1].startswith("hint: ")


def test_a_date_that_somebody_made_up(signed: World) -> None:
    """A claim of today does not hide behind an old date: it stands above what the gate signed before it."""
    make(signed, [Step()] * 3)
    forged = claim(signed, date="1999-12-31T00:00:00Z")
    newest = lines(signed, limit=1, since=BEGAN + 2 * HOUR)
    assert [(one.record.commit, one.state) for one in newest] == [(forged, State.BROKEN)]


def test_a_change_that_was_taken_out_of_git(
    signed: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody forces main back: the ledger still tells of what entered, and `history` says that Git has lost it."""
    first, second = make(signed, [Step()] * 2)
    signed.git(signed.server, "update-ref", "refs/heads/main", first)
    context = signed.context
    found = trail.read(context, context.environments)
    assert found.missing == (("prod", second),)
    assert [one.state for one in found.lines] == ["VERIFIED"]
    assert ran(monkeypatch, "--no-clusters") == 1
    assert f"BROKEN: prod was changed by {second}, says the ledger" in capsys.readouterr().out


def test_what_enters_while_it_is_read(signed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion between two looks at the server is not taken for one that Git has lost."""
    make(signed, [Step()])
    clone = git.clone

    def late(*arguments: Any, **options: Any) -> Any:
        make(signed, [Step()])
        return clone(*arguments, **options)

    monkeypatch.setattr(git, "clone", late)
    found = trail.read(signed.context, signed.context.environments)
    assert found.missing == ()


@pytest.mark.parametrize("gone", ["the file", "the ledger"])
def test_what_the_ledger_lacks_and_the_registry_cannot_tell(
    signed: World, gone: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nobody can tell, the line is UNKNOWN, never VERIFIED, and `history` exits 3."""
    make(signed, [Step(), Step(keeps=()), Step()])
    if gone == "the ledger":
        signed.git(signed.server, "update-ref", "-d", f"refs/heads/{ledger.BRANCH}")
    states = [state for state, _ in told(signed)]
    assert states == (["UNKNOWN"] * 3 if gone == "the ledger" else ["VERIFIED", "UNKNOWN", "VERIFIED"])
    assert ran(monkeypatch, "--no-clusters") == 3
    said = capsys.readouterr()
    assert "its entry cannot be read: registry localhost:1 does not answer" in " ".join(said.out.split())
    assert "error: UNKNOWN: not everything could be read" in said.err


def test_what_the_clusters_cannot_tell(
    signed: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No cluster answers: all that Git has is shown, and exit 3; --no-clusters asks none, says so, and exits 0."""
    make(signed, [Step()])
    assert ran(monkeypatch, "prod") == 3
    said = capsys.readouterr()
    assert "build" in said.out
    assert "prod: emergencies are not known" in said.out
    assert ran(monkeypatch, "prod", "--no-clusters") == 0
    assert "the clusters were not asked" in capsys.readouterr().out


def test_eighty_columns(
    signed: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal of 80 columns shows every line whole, whoever approved; what is piped is not folded."""
    [person] = signed.context.pipeline.approvers
    long = person.model_copy(update={"identity": f"ada.lovelace@{'analytical.' * 4}example"})
    world = signed.ruled(approvers=(long,))
    make(world, [Step()] * 12)
    found = verb.history(world.context, 20, clusters=False)
    show.print_history(found)
    piped = capsys.readouterr().out.splitlines()
    assert piped[1].endswith(f"  {long.identity}")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    show.print_history(found)
    table, _, _ = capsys.readouterr().out.partition("emergencies and lifted")
    rows = table.splitlines()[1:]
    assert max(map(len, rows)) <= 80
    column = piped[1].index(long.identity)
    assert "".join(one[column:] for one in rows) == long.identity * 12


def test_what_others_wrote_is_text(
    signed: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a commit says of itself commands no terminal, and is no formula in a spreadsheet."""
    make(signed, [Step(requested_by="=cmd|'/c calc'!A0")])
    claim(signed, Build="\x1b]0;owned\x07", Requested_By="@SUM(1)")
    assert ran(monkeypatch, "--no-clusters") == 1
    assert "\x1b" not in capsys.readouterr().out
    assert ran(monkeypatch, "--no-clusters", "--format", "csv") == 1
    forged, real = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (forged["requested_by"], real["requested_by"]) == ("'@SUM(1)", "'=cmd|'/c calc'!A0")
    assert (forged["state"], forged["reason"]) == ("BROKEN", "gate-prod did not sign its commit")
    assert (real["lead_time_seconds"], real["digest"], real["state"]) == ("1800.0", named(0), "VERIFIED")


def test_json_is_a_contract(
    signed: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """delivery/history/v2 has these names, and what is not known is null."""
    [commit] = make(signed, [Step()])
    assert ran(monkeypatch, "--no-clusters", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {
        *("schema", "changes", "missing", "clusters_asked", "emergencies", "lifted_freezes", "keys"),
    }
    assert (document["schema"], document["clusters_asked"]) == ("delivery/history/v2", False)
    [one] = document["changes"]
    assert set(one) == {
        *("commit", "date", "author", "environment", "build", "before", "after", "revision", "promoted_from"),
        *("evidence", "approved_by", "requested_by", "restores", "reason", "tag"),
        *(
            "kind",
            "state",
            "reasons",
            "at",
            "build_before",
            "entry",
            "tests",
            "approvers",
            "lead_time_seconds",
        ),
    }
    assert (one["commit"], one["kind"], one["state"], one["reasons"]) == (commit, "promotion", "VERIFIED", [])
    assert (one["build_before"], one["lead_time_seconds"]) == (None, 1800.0)
    assert one["at"] == BEGAN.isoformat(timespec="seconds")


def test_how_much_is_shown(signed: World) -> None:
    """--limit takes the newest, --since leaves out what is older, and an environment is asked for by its name."""
    commits = make(signed, [Step()] * 4)
    assert [one.record.commit for one in lines(signed, limit=2)] == commits[:1:-1]
    assert [one.record.commit for one in lines(signed, since=BEGAN + 3 * HOUR)] == commits[3:]
    stage = signed.context.environment("stage")
    assert verb.history(signed.context, 20, stage, clusters=False).trail == trail.Trail((), ())


def test_a_long_history_costs_no_more_programs(signed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times as many lines are read by as many programs, and without the registry: none is started for a line."""
    started: list[int] = []
    real = subprocess.run

    def counted(*arguments: Any, **options: Any) -> Any:
        started.append(1)
        return real(*arguments, **options)

    def programs(count: int) -> int:
        make(signed, [Step()] * count, tests=3)
        started.clear()
        with monkeypatch.context() as patch:
            patch.setattr(git.subprocess, "run", counted)
            assert len([one for one in lines(signed) if one.state is State.VERIFIED]) >= count
        return len(started)

    assert programs(24) <= programs(3)


def test_the_figures_are_read_from_git(
    signed: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--metrics says DORA's four figures; a line that does not hold is left out of them, is named, and exits 1."""
    make(signed, [Step(), Step(result="FAILED"), Step()])
    assert ran(monkeypatch, "prod", "--metrics", "--days", "3650", "--no-clusters", "--format", "json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["environment"]) == ("delivery/metrics/v1", "prod")
    assert (document["promotions"], document["failed"], document["change_failure_rate"]) == (2, 0, 0.0)
    assert (document["lead_time_seconds"], document["time_to_restore_seconds"]) == (1800.0, None)
    [out] = document["left_out"]
    assert out["reasons"] == ["it rests on a test that FAILED"]
    assert ran(monkeypatch, "dev", "--metrics") == 2
    assert "dev has no gate" in capsys.readouterr().err
    assert ran(monkeypatch, "--metrics", "--format", "csv") == 2


def test_the_whole_way(cluster: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is deployed, promoted, changed and rolled back is a line each; the registry alone says the same.

    What was committed within one second stands in Git's order, whatever environment it is about.
    """
    world = cluster.world
    context = world.context
    prod = context.environment("prod")
    deploy(cluster)
    promote(cluster, "stage")
    first = promote(cluster, "prod")
    clone = world.clone("editor")
    world.commit(clone, prod.values, world.file(prod.values) + "# two are enough\n", "say why")
    world.git(clone, "push", "--quiet", "origin", "main")
    changed = promote(cluster, "prod")
    chart = context.pipeline.chart.path
    world.git(clone, "pull", "--quiet", "--rebase")
    with monkeypatch.context() as patch:
        patch.setenv("GIT_AUTHOR_DATE", world.git(clone, "log", "-1", "--format=%aI", changed.commit))
        world.commit(
            clone, f"{chart}/values.yaml", "replicas: 1  # one\nimage: {repository: ''}\n", "the chart"
        )
    world.git(clone, "push", "--quiet", "origin", "main")
    back = rolling.rollback(context, prod)
    found = trail.read(context, context.environments)
    assert [(one.kind, str(one.state), one.held.reasons) for one in found.lines] == [
        ("rollback", "VERIFIED", ()),
        ("configuration", "UNVERIFIED", ()),
        ("configuration", "VERIFIED", ()),
        ("promotion", "VERIFIED", ()),
        ("promotion", "VERIFIED", ()),
        ("deploy", "UNVERIFIED", ()),
    ]
    followed = found.lines[1]
    assert (followed.record.environment, followed.record.requested_by) == ("dev", "Ada <ada@example.test>")
    assert followed.record.before == followed.record.after == built.digest
    entered = [one.record.commit for one in found.lines if one.record.environment == "prod"]
    assert entered == [back.commit, changed.commit, first.commit]
    assert [one.lead is not None for one in found.lines] == [False, False, False, True, True, True]
    world.git(world.server, "update-ref", "-d", f"refs/heads/{ledger.BRANCH}")
    assert trail.read(context, context.environments) == found


def test_a_run_that_was_killed_before_the_ledger(
    cluster: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is signed, and the run ends before it is on record: the next one puts it there, once."""
    context = cluster.world.context
    deploy(cluster)
    prepare(cluster, "stage")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            bare_promote(cluster, "stage")
    with ledger.opened(context) as book:
        assert book.changes() == frozenset()
    done = bare_promote(cluster, "stage")
    bare_promote(cluster, "stage")
    with ledger.opened(context) as book:
        assert book.changes() == {("stage", done.commit)}
        [kept] = book.statements([("stage", done.commit)]).values()
    assert len(kept) == 2, "the entry, and the test that it rests on"
    [line, _] = trail.read(context, context.environments).lines
    assert line.state is State.VERIFIED
