"""`delivery adopt`: a fresh fork becomes a team's own, in one go or not at all.

Everything is done in a worktree of Git's, beside the checkout. Only when pipeline.yaml still loads there does the
checkout get the result, staged and not committed: a person looks at it first, and Git takes it back.
"""

import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from delivery import pipeline as pipelines
from delivery.desired import addresses, derived, renamed, sites
from delivery.desired.renamed import Spelling
from delivery.errors import BadInput
from delivery.parts import git
from delivery.pipeline import FILE, Pipeline
from delivery.site import FILE as SITE_FILE
from delivery.site import LocalSite, Place, Site

_HOLDER = "Copyright [yyyy] [name of copyright owner]"  # as the Apache License leaves it open
_LONG = "  # noqa: E501"


@dataclass(frozen=True)
class Wanted:
    """What was asked. All but a registry that no forge implies follows from the repository that was cloned."""

    name: str | None = None
    registry: str | None = None
    git: str | None = None
    site: str | None = None
    owner: str | None = None


@dataclass(frozen=True)
class Adopted:
    """What the checkout is now, or would be: `files` of it differ, `moved` of them by their path."""

    name: str
    site: str
    git: str
    image: str
    files: int
    moved: int
    missing: tuple[str, ...]  # of the site, which nobody but the team knows
    difference: str  # one line a file, as `git diff --stat` shows it


@dataclass(frozen=True)
class _Facts:
    """What follows from what was asked."""

    name: str
    site: str
    git: str
    image: str
    owner: str  # who holds the copyright; empty leaves LICENSE alone
    insists: bool  # the owner was named, so somebody else's line is no answer


def run(pipeline: Pipeline, wanted: Wanted, dry_run: bool = False) -> Adopted:
    """Give the checkout its own name, addresses and licence holder; the difference, which is staged unless `dry_run`.

    A second run with the same arguments changes nothing. BadInput, and nothing written, for a name or an address that
    Kubernetes, OCI, Git or Python refuses, a dirty tree, a local site that is up under the old name, or a name that is
    to be replaced and is an ordinary word of the repository.
    """
    repository = git.checkout(pipeline.root)
    if repository.path.resolve() != pipeline.root.resolve():
        raise BadInput(f"{pipeline.root} is not the top of its repository", "adopt a repository of its own")
    facts = _facts(pipeline, repository, wanted)
    old, new = Spelling(pipeline.chart.release), Spelling(facts.name)
    if new != old:
        _insist_on_name(pipeline, repository, old, new)
        _insist_on_words(repository, old)
    before = repository.run("write-tree")
    with _worktree(repository, before) as copy:
        after_ = _adopted(copy, pipeline, old, new, facts)
        copy.run("add", "--all", "--force")
        after = copy.run("write-tree")
    options = ("diff", "--no-ext-diff", "-M", before, after)
    stat = repository.run(*options, "--stat=120") if after != before else ""
    states = [line[0] for line in repository.run(*options, "--name-status").splitlines()]
    if after != before:
        _insist_clean(repository)
        if new != old:
            _insist_down(pipeline)
        if not dry_run:
            repository.run("read-tree", "-m", "-u", "HEAD", after)
            _swept(pipeline.root, pipeline.image.context, pipeline.chart.path)
    return Adopted(
        *(facts.name, facts.site, facts.git, facts.image, len(states), states.count("R")),
        *(_missing(after_, facts.site), stat),
    )


def _facts(pipeline: Pipeline, repository: git.Repository, wanted: Wanted) -> _Facts:
    url = wanted.git or _setting(repository, "remote.origin.url")
    if not url:
        raise BadInput(
            "this checkout has no remote called origin", "name your Git repository: --git https://…"
        )
    where = addresses.git(url)
    name = wanted.name if wanted.name is not None else addresses.slug(where.repository)
    registry = wanted.registry if wanted.registry is not None else where.registry
    if not registry:
        raise BadInput(
            f"nobody knows where {where.host} keeps images", "name your registry: --registry ghcr.io/acme"
        )
    image = addresses.image(registry, name)
    site = wanted.site if wanted.site is not None else addresses.site(where, image)
    addresses.insist_on_site_name(site)
    owner = wanted.owner if wanted.owner is not None else where.owner or _setting(repository, "user.name")
    if wanted.owner is not None and (not owner.strip() or not owner.isprintable()):
        raise BadInput("the licence's holder must be one line of text", "such as --owner 'Acme Ltd'")
    return _Facts(name, site, where.url, image, owner.strip(), wanted.owner is not None)


def _setting(repository: git.Repository, key: str) -> str:
    try:
        return repository.run("config", "--get", key)
    except git.GitFailed:
        return ""


def _insist_on_name(pipeline: Pipeline, repository: git.Repository, old: Spelling, new: Spelling) -> None:
    files = repository.run("ls-files").splitlines()
    taken = {path.partition("/")[0] for path in files if renamed.renamed(path, old, new) == path}
    charts = f"{pipeline.chart.path}/charts/"
    parts = {path.removeprefix(charts).partition("/")[0] for path in files if path.startswith(charts)}
    python = any(path.startswith(f"{pipeline.image.context}/{old.module}/") for path in files)
    renamed.insist(pipeline, new.name, taken, parts, python)


def _insist_on_words(repository: git.Repository, old: Spelling) -> None:
    """A name without a dash may be an ordinary word of the repository too: nobody could tell one from the other."""
    if "-" in old.name:
        return
    commit = repository.run("log", "-1", "--format=%H", f"-Srelease: {old.name}", "--", FILE)
    parent = f"{commit}^"
    if not commit or not repository.ok("cat-file", "-e", f"{parent}:{FILE}"):
        return  # it never had another name
    word = f"(^|[^A-Za-z0-9_]){old.name}([^A-Za-z0-9_]|$)"
    with contextlib.suppress(git.GitFailed):
        found = repository.run("grep", "-l", "-I", "-E", word, parent, "--", ".", ":!*.md", f":!{FILE}")
        raise BadInput(
            f"cannot tell which {old.name} to replace: before it was the app's name, it was a word of "
            f"{found.splitlines()[0].partition(':')[2]}",
            f"go back to the name before, then adopt again: git revert {commit[:12]}",
        )


def _insist_clean(repository: git.Repository) -> None:
    if changed := repository.run("status", "--porcelain").splitlines():
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise BadInput(f"the tree is dirty: {changed[0].strip()}{more}", "commit or stash first")


def _insist_down(pipeline: Pipeline) -> None:
    """The name is also that of the kind cluster and its containers: under another, nobody would find them again."""
    for site in pipeline.sites:
        if isinstance(site, LocalSite) and (site.state / SITE_FILE).exists():
            raise BadInput(
                f"site {site.name} is up as {site.local.cluster}, and would be lost under another name",
                "take it down first: make down",
            )


@contextmanager
def _worktree(repository: git.Repository, tree: str) -> Iterator[git.Repository]:
    """A second checkout of what is staged, with an index of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="delivery-adopt-", ignore_cleanup_errors=True) as folder:
        path = Path(folder).resolve() / "checkout"
        repository.run("worktree", "add", "--quiet", "--detach", "--no-checkout", str(path), "HEAD")
        copy = git.Repository(path)
        try:
            copy.run("read-tree", "-u", "--reset", tree)
            yield copy
        finally:
            repository.run("worktree", "remove", "--force", str(path))


def _adopted(
    copy: git.Repository, pipeline: Pipeline, old: Spelling, new: Spelling, facts: _Facts
) -> Pipeline:
    """Change the files of the copy; its pipeline, which loads."""
    if new != old:
        _rename(copy, old, new)
        _title(copy.path / "README.md", new)
    rules = copy.path / FILE
    environments = [one.name for one in pipeline.environments]
    _put(
        rules,
        sites.with_site(_text(rules), facts.site, facts.git, facts.image, environments, pipeline.signed_by),
    )
    _license(copy.path / "LICENSE", facts.owner, facts.insists)
    try:
        changed = pipelines.load(copy.path)
    except BadInput as error:
        raise BadInput(error.message.replace(f"{copy.path}/", ""), "adopt by hand, or another name") from None
    derived.write(copy.path, derived.stale(copy.path, derived.files(changed)))
    return changed


def _rename(copy: git.Repository, old: Spelling, new: Spelling) -> None:
    code = []
    paths = copy.run("ls-files", "-z").rstrip("\0").split("\0")
    for path in paths:
        file = copy.path / path
        if renamed.kept(path):
            continue
        target = renamed.renamed(path, old, new)
        if target != path and target in paths:
            raise BadInput(
                f"{new.name!r} cannot be the app's name: there is a {target} already", "choose another"
            )
        if target != path:
            (copy.path / target).parent.mkdir(parents=True, exist_ok=True)
            file = file.rename(copy.path / target)
        if file.is_symlink() or not file.is_file():
            continue
        try:
            text = _text(file)
        except UnicodeDecodeError:
            continue
        change = renamed.renamed_prose if file.suffix == ".md" else renamed.renamed
        if "\0" in text or (changed := change(text, old, new)) == text:
            continue
        _put(file, changed)
        if file.suffix == ".py":
            code.append(file)
    _format(copy.path, code)


def _format(folder: Path, files: list[Path]) -> None:
    """As `make lint` wants it: imports in the order of their new names, and lines broken where they are longer now.

    A line that nothing can break is marked, as a person would; a name that is shorter again takes the mark away.
    """
    if not files or importlib.util.find_spec("ruff") is None:
        return
    for file in files:
        text = _text(file)
        if _LONG in text:
            _put(file, re.sub(rf"{_LONG}$", "", text, flags=re.MULTILINE))
    for verb in (
        ("check", "--select", "I", "--fix", "--exit-zero"),
        ("format",),
        ("check", "--select", "E501", "--add-noqa"),
    ):
        command = [sys.executable, "-m", "ruff", *verb, "--quiet", "--no-cache", "--", *files]
        subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=60)


def _title(file: Path, new: Spelling) -> None:
    """The README is now about this app: its title says so, unless it does already."""
    if not file.is_file():
        return
    text = _text(file)
    title = re.search(r"^# (.*)$", text, re.MULTILINE)
    if title and not new.spelled_in(title[1]):
        _put(file, f"{text[: title.start(1)]}{new.name}: {title[1]}{text[title.end(1) :]}")


def _license(file: Path, owner: str, insists: bool) -> None:
    """Who holds the copyright. A line that names somebody else stays, as the licence asks, and gets one beside it."""
    if not owner or not file.is_file():
        return
    text, line = _text(file), f"Copyright {datetime.now(UTC).year} {owner}"
    others = list(re.finditer(r"^ *Copyright (?:\(c\) )?[0-9]{4}\S* (.+)$", text, re.MULTILINE))
    if _HOLDER in text:
        _put(file, text.replace(_HOLDER, line, 1))
    elif others and insists and owner not in [other[1].strip() for other in others]:
        last = others[-1]
        indent = last[0][: len(last[0]) - len(last[0].lstrip())]
        _put(file, f"{text[: last.end()]}\n{indent}{line}{text[last.end() :]}")


def _missing(pipeline: Pipeline, name: str) -> tuple[str, ...]:
    site = pipeline.site(name)
    if not isinstance(site, Site):
        return ()
    places = {one.name: site.environments.get(one.name, Place()) for one in pipeline.environments}
    lacking = {
        "context": [one for one, place in places.items() if not (place.context or place.in_cluster)],
        "url": [one for one, place in places.items() if not place.url],
        "signer": [one for one in pipeline.signed_by if one not in site.signers],
    }
    return tuple(f"{what} of {', '.join(names)}" for what, names in lacking.items() if names)


def _swept(root: Path, *folders: str) -> None:
    """Folders under the old name that hold nothing but compiled Python any more."""
    for folder in folders:
        for cache in [*(root / folder).rglob("__pycache__")]:
            shutil.rmtree(cache, ignore_errors=True)
        for left in sorted((root / folder).rglob("*"), reverse=True):
            if left.is_dir() and not any(left.iterdir()):
                left.rmdir()
        if (root / folder).is_dir() and not any((root / folder).iterdir()):
            (root / folder).rmdir()


def _text(file: Path) -> str:
    return file.read_bytes().decode("utf-8")  # line ends stay what they are


def _put(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8"))
