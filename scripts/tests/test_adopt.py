"""`delivery adopt`, on a clone of this very repository, whatever it is called by now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from delivery import cli, pipeline
from delivery.desired import addresses, renamed, sites
from delivery.desired.renamed import Spelling, kept
from delivery.errors import BadInput, DeliveryError
from delivery.site import LocalSite, Site
from delivery.verbs import adopt
from delivery.verbs.adopt import Adopted, Wanted
from scripts.tests.world import ROOT, git

NOW = Spelling(pipeline.load(ROOT).chart.release)
NEXT = Wanted("parcel-desk", "registry.example/tidewater", "https://git.example/Tidewater/parcel-desk.git")
SITE = "tidewater"
PLAIN = "".join(("quay", "side"))  # without a dash, and no word of this file


def run(fork: Path, wanted: Wanted = NEXT, dry_run: bool = False) -> Adopted:
    return adopt.run(pipeline.load(fork), wanted, dry_run)


def committed(fork: Path, wanted: Wanted = NEXT) -> Adopted:
    done = run(fork, wanted)
    git(fork, "commit", "--quiet", "--message", f"This is {done.name}")
    return done


def state(fork: Path) -> tuple[str, ...]:
    """All that a verb could have changed."""
    return (git(fork, "rev-parse", "HEAD"), git(fork, "status", "--porcelain"), git(fork, "worktree", "list"))


def left(fork: Path, *, cased: bool = False) -> list[str]:
    """Files, and paths, that still have the old name and may not."""
    pattern = NOW.name.replace("-", ".") if "-" in NOW.name else NOW.module
    found = subprocess.run(
        ["git", "-C", fork, "grep", "-l", *([] if cased else ["-i"]), pattern], capture_output=True, text=True
    ).stdout.splitlines()
    named = [path for path in git(fork, "ls-files").splitlines() if NOW.spelled_in(path)]
    return [path for path in (*found, *named) if not kept(path)]


def test_everything_follows_the_name(fork: Path) -> None:
    """After `delivery adopt` no file and no path has the old name by accident; pipeline.yaml loads and agrees."""
    done = committed(fork)
    assert left(fork) == []
    rules = pipeline.load(fork)
    assert (rules.chart.release, rules.chart.path, rules.image.context) == (
        *("parcel-desk", "parcel-desk-helm", "parcel-desk"),
    )
    assert [one.application for one in rules.environments] == [
        f"parcel-desk-{e.name}" for e in rules.environments
    ]
    assert all((fork / one.values).is_file() for one in rules.environments)
    local = [site.local.cluster for site in rules.sites if isinstance(site, LocalSite)]
    assert local == ["parcel-desk", "parcel-desk-e2e"]
    chart = yaml.safe_load((fork / "parcel-desk-helm" / "Chart.yaml").read_text("utf-8"))
    assert chart["name"] == "parcel-desk"
    assert "parcel-desk" in (fork / "README.md").read_text("utf-8").splitlines()[0]
    assert done.moved > 20
    assert git(fork, "status", "--porcelain", "--ignored") == ""


def test_the_site_is_added_and_the_local_ones_stay_first(fork: Path) -> None:
    """The team's site stands last: a laptop that names none never touches it; the comments of the file survive."""
    before = (fork / "pipeline.yaml").read_text("utf-8")
    done = committed(fork)
    rules = pipeline.load(fork)
    assert isinstance(rules.sites[0], LocalSite)
    site = rules.site(SITE)
    assert isinstance(site, Site)
    assert (site.git.url, site.image.name) == (NEXT.git, "registry.example/tidewater/parcel-desk")
    assert done.missing == (
        "context of dev, stage, prod",
        "url of dev, stage, prod",
        f"signer of {', '.join(rules.signed_by)}",
    )
    with pytest.raises(BadInput, match="site tidewater names no cluster for prod"):
        site.place("prod")
    with pytest.raises(BadInput, match="site tidewater names no url for dev"):
        site.url("dev")
    after = (fork / "pipeline.yaml").read_text("utf-8")
    comments = [
        line.partition("# ")[2] for line in before.partition("# A team's own")[0].splitlines() if "# " in line
    ]
    assert not [line for line in comments if renamed.renamed(line, NOW, Spelling("parcel-desk")) not in after]
    assert "# A team's own" not in after


def test_what_is_commented_is_right_once_it_is_said(fork: Path) -> None:
    """Whoever takes the `# ` away from the lines of the site, and fills them in, has a site."""
    committed(fork)
    rules = fork / "pipeline.yaml"
    head, mark, tail = rules.read_text("utf-8").rpartition("name what is missing.\n")
    rules.write_text(head + mark + tail.replace("    # ", "    "), "utf-8")
    site = pipeline.load(fork).site(SITE)
    assert isinstance(site, Site)
    assert site.place("prod").context == "tidewater-prod"
    assert set(site.signers) == set(pipeline.load(fork).signed_by)


def test_a_second_run_changes_nothing(fork: Path) -> None:
    """The same arguments again: nothing to change, committed or not."""
    run(fork)
    staged = git(fork, "write-tree")
    assert run(fork).files == 0
    assert git(fork, "write-tree") == staged
    git(fork, "commit", "--quiet", "--message", "mine")
    before = state(fork)
    assert run(fork).files == 0
    assert state(fork) == before


@pytest.mark.parametrize(("first", "then"), [(PLAIN, "order-hub-two"), ("parcel-desk", "zestbar")])
def test_another_name_later(fork: Path, first: str, then: str) -> None:
    """From whatever it is called now, with a dash or without, it is renamed as if that had been its first name."""
    new = Wanted(
        then, "registry.example/tidewater", f"https://git.example/tidewater/{then}", owner="Tidewater Ltd"
    )
    old = Wanted(
        first, "registry.example/tidewater", f"https://git.example/tidewater/{first}", owner="Tidewater Ltd"
    )
    start = git(fork, "rev-parse", "HEAD")
    committed(fork, old)
    committed(fork, new)
    twice = git(fork, "rev-parse", "HEAD")
    git(fork, "reset", "--quiet", "--hard", start)
    committed(fork, new)
    # Columns and line breaks may differ, words may not.
    assert git(fork, "diff", "-w", "--stat", twice, "--", ".", ":!*.py", ":!*.md") == ""
    assert git(fork, "ls-files") == git(fork, "ls-tree", "-r", "--name-only", twice)


def test_an_ordinary_word_is_not_torn_out(fork: Path) -> None:
    """A name that was a word of the repository before cannot be told from it: nothing is written, and revert helps."""
    committed(fork, Wanted("orders", "registry.example/tidewater", "https://git.example/tidewater/orders"))
    before = state(fork)
    with pytest.raises(
        BadInput, match=r"cannot tell which orders to replace: .* it was a word of"
    ) as refused:
        run(fork)
    assert f"git revert {before[0][:12]}" in refused.value.hint
    assert state(fork) == before
    git(fork, "revert", "--no-edit", "HEAD")
    assert run(fork).name == "parcel-desk"


def test_all_is_derived_from_origin(fork: Path) -> None:
    """A clone of a fork on GitHub needs no argument at all."""
    git(fork, "remote", "set-url", "origin", "git@github.com:Acme-Inc/Order_Board.git")
    done = run(fork, Wanted())
    assert (done.name, done.site, done.image) == ("order-board", "acme-inc", "ghcr.io/acme-inc/order-board")
    assert " Acme-Inc\n" in (fork / "LICENSE").read_text("utf-8") or "[yyyy]" not in git(
        fork, "show", "HEAD:LICENSE"
    )


def test_the_licence_keeps_what_it_says(fork: Path) -> None:
    """The holder is filled in where it was left open; a line that names somebody is kept, and gets one beside it."""
    license_ = fork / "LICENSE"
    committed(fork, Wanted(*(NEXT.name, NEXT.registry, NEXT.git), owner="Tidewater Ltd"))
    once = license_.read_text("utf-8")
    assert once.count(" Tidewater Ltd\n") == 1
    assert "[name of copyright owner]" not in once
    committed(fork, Wanted(*("zestbar", NEXT.registry, NEXT.git)))
    assert license_.read_text("utf-8") == once, "nobody asked for another holder"
    committed(fork, Wanted(*("zestbar", NEXT.registry, NEXT.git), owner="Quay GmbH"))
    assert " Tidewater Ltd\n" in license_.read_text("utf-8")
    assert license_.read_text("utf-8").count(" Quay GmbH\n") == 1


def test_a_dry_run_writes_nothing(fork: Path) -> None:
    """--dry-run says which files would change, and changes none."""
    before = state(fork)
    done = run(fork, dry_run=True)
    assert "pipeline.yaml" in done.difference
    assert state(fork) == before


def test_a_dirty_tree_is_refused(fork: Path) -> None:
    """What is not committed is never mixed with what adopt does, nor lost."""
    (fork / "notes.txt").write_text("mine")
    before = state(fork)
    with pytest.raises(BadInput, match=r"the tree is dirty: \?\? notes\.txt"):
        run(fork)
    assert state(fork) == before


def test_a_cluster_that_is_up_is_not_lost(fork: Path) -> None:
    """Under another name nobody would find the kind cluster again: it is taken down first."""
    (fork / ".delivery" / "local").mkdir(parents=True)
    (fork / ".delivery" / "local" / "site.yaml").write_text("name: local\n")
    with pytest.raises(BadInput, match=f"site local is up as {NOW.name}") as refused:
        run(fork)
    assert refused.value.hint == "take it down first: make down"
    assert state(fork)[1] == ""


NAMES = {
    "Shop": "Kubernetes takes",
    "my_shop": "Kubernetes takes",
    "1shop": "Kubernetes takes",
    "shop-": "Kubernetes takes",
    "": "Kubernetes takes",
    "a" * 43: "it has 43 characters, and what is called after it leaves 42",
    "true": "YAML reads it",
    "delivery": "a part of that name",
    "local": "a part of that name",
    "scripts": "a part of that name",
    "e2e": "a part of that name",
    "argocd": "a part of that name",
    "postgresql": "a chart in .*/charts is called so",
    "test": "hide Python's own module test",
    "json": "hide Python's own module json",
    "class": "a word of Python",
    "httpx": "hide the module httpx of httpx",
    "prometheus-client": "hide the module prometheus_client",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_somebody_refuses(original: Path, name: str) -> None:
    """A name that Kubernetes, YAML, Python or this repository does not take is refused; nothing is written."""
    before = state(original)
    with pytest.raises(BadInput, match=NAMES[name]):
        run(original, Wanted(name, "registry.example/tidewater", NEXT.git))
    assert state(original) == before


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        ("ghcr.io/acme", "ghcr.io/acme/desk"),
        ("docker.io/acme/", "docker.io/acme/desk"),
        ("registry.gitlab.com/acme/group/desk", "registry.gitlab.com/acme/group/desk"),
        ("1234.dkr.ecr.eu-west-1.amazonaws.com", "1234.dkr.ecr.eu-west-1.amazonaws.com/desk"),
        ("registry.example:5000/a__b/c-d", "registry.example:5000/a__b/c-d/desk"),
        ("https://ghcr.io/acme", None),
        ("ghcr.io/Acme", None),
        ("ghcr.io", None),
        ("docker.io", None),
        ("acme", None),
        ("acme/desk", None),
        ("ghcr.io//acme", None),
        ("ghcr.io/acme:tag", None),
        ("localhost:5000/acme", None),
        ("127.0.0.1:5000/acme", None),
        ("", None),
        ("ghcr.io/" + "a" * 250, None),
    ],
)
def test_registries(registry: str, said: str | None) -> None:
    """A registry is a host and a path that OCI takes, and one that a cluster's nodes can reach."""
    if said:
        assert addresses.image(registry, "desk") == said
        return
    with pytest.raises(BadInput) as refused:
        addresses.image(registry, "desk")
    assert refused.value.hint


@pytest.mark.parametrize(
    ("url", "owner"),
    [
        ("https://github.com/acme/desk", "acme"),
        ("https://gitlab.example:8443/acme/group/desk.git/", "acme"),
        ("ssh://git@git.example:2222/acme/desk.git", "acme"),
        ("git@github.com:acme/desk.git", "acme"),
        ("https://git.example/desk", ""),
        ("http://github.com/acme/desk", None),
        ("file:///srv/desk.git", None),
        ("/srv/desk.git", None),
        ("https://github.com", None),
        ("https://github.com/acme/desk?x=1", None),
        ("https://ada:secret@github.com/acme/desk", None),
        ("https://secret@github.com/acme/desk", None),
        ("https://localhost/acme/desk", None),
        ("ssh://git@127.0.0.1/acme/desk", None),
        ("https://git.example/acme/de sk", None),
        ("https://git.example:port/acme/desk", None),
    ],
)
def test_git_urls(url: str, owner: str | None) -> None:
    """Git is reached by https or ssh, from elsewhere too; a login never gets into pipeline.yaml nor into a message."""
    if owner is not None:
        assert addresses.git(url).owner == owner
        return
    with pytest.raises(BadInput) as refused:
        addresses.git(url)
    assert "secret" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            Wanted(*("desk", "ghcr.io/acme", "https://git.example/acme/desk"), site="local"),
            "made on this machine",
        ),
        (Wanted(*("desk", "ghcr.io/acme", "https://git.example/acme/desk"), site="Acme_"), "a site's name"),
        (
            Wanted(*("desk", "ghcr.io/acme", "https://git.example/acme/desk"), owner="a\nb"),
            "one line of text",
        ),
        (
            Wanted("desk", None, "https://git.example/acme/desk"),
            "nobody knows where git.example keeps images",
        ),
        (Wanted("desk", "ghcr.io/acme"), "no remote called origin"),
    ],
)
def test_other_input_that_is_refused(original: Path, wanted: Wanted, says: str) -> None:
    """Whatever is wrong in the arguments is said in one line, and nothing is written."""
    before = state(original)
    with pytest.raises(DeliveryError, match=says) as refused:
        run(original, wanted)
    assert refused.value.exit_code == 2
    assert state(original) == before


def test_a_site_that_is_there_gets_the_addresses_alone() -> None:
    """Whatever a team says about its site stays when it moves to another registry."""
    text = """\
sites:
- name: local
  local: { cluster: x }
- name: acme  # ours
  image: {name: "ghcr.io/acme/desk", ca: ca.pem}
  git:
    url: https://github.com/acme/desk  # kept
  environments: { dev: { context: a } }
# the end
"""
    said = sites.with_site(
        text, "acme", "https://github.com/acme/board", "quay.io/acme/board", ["dev"], ["build"]
    )
    assert said == text.replace('"ghcr.io/acme/desk"', "quay.io/acme/board").replace(
        "acme/desk ", "acme/board "
    )
    more = sites.with_site(
        text, "other", "https://github.com/acme/board", "quay.io/acme/board", ["dev"], ["build"]
    )
    names = [site["name"] for site in yaml.safe_load(more)["sites"]]
    assert names == ["local", "acme", "other"]
    assert more.startswith(text.removesuffix("# the end\n"))
    assert more.endswith("# the end\n")
    # What is still a comment of one site does not become the next one's.
    third = sites.with_site(more, "third", "https://git.example/x", "quay.io/acme/x", ["dev"], ["build"])
    assert third.startswith(more.removesuffix("# the end\n"))
    with pytest.raises(BadInput, match="cannot be changed in place"):
        sites.with_site("sites: [{ name: local }]\n", "acme", "https://a/b", "a.b/c", [], [])


def test_the_verb(fork: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the README, as text and as JSON."""
    arguments = ("adopt", "--name=parcel-desk", f"--registry={NEXT.registry}", f"--git={NEXT.git}")
    for more in ((), ("--format=json",)):
        monkeypatch.setattr(sys, "argv", ["delivery", *arguments, *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
    text, _, document = capsys.readouterr().out.partition("{")
    assert 'git commit -m "This is parcel-desk"' in text
    assert json.loads("{" + document)["schema"] == "delivery/adopted/v1"


@pytest.mark.slow
@pytest.mark.parametrize("name", [PLAIN, "a-rather-long-name-of-a-service"])
def test_the_adopted_repository_is_whole(fork: Path, name: str, program: Callable[[str], Path]) -> None:
    """Under its new name the chart lints and renders, types and style are right, and the app's own tests pass."""
    committed(fork, Wanted(name, "registry.example/tidewater", "https://git.example/tidewater/desk"))
    environment = os.environ | {"PYTHONPATH": str(fork / "scripts")}

    def passes(*command: str | Path) -> None:
        done = subprocess.run(command, cwd=fork, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    python = (sys.executable, "-m")
    changed = git(fork, "diff", "--name-only", "--diff-filter=d", "HEAD^", "--", "*.py").splitlines()
    passes(*python, "ruff", "format", "--check", *changed)
    passes(*python, "ruff", "check", "--select", "I,E", *changed)
    passes(*python, "mypy")
    passes(sys.executable, "-c", "from delivery import pipeline; pipeline.load()")
    rules = pipeline.load(fork)
    digests = [f"{part}image.digest=sha256:{'a' * 64}" for part in ("", "postgresql.", "rates.")]
    chosen = ("--set-string", ",".join((*digests, "image.tag=15", "image.repository=registry.example/x")))
    for one in rules.environments:
        values = ("--values", one.values, *chosen)
        passes(program("helm"), "lint", rules.chart.path, *values)
        passes(program("helm"), "template", name, rules.chart.path, *values)
    if (fork / name / "tests").is_dir():
        some = "operations or page or pricing"  # what is called after the app: metrics, database, title
        passes(*python, "pytest", "-q", "-p", "no:cacheprovider", f"{name}/tests", "-k", some)
