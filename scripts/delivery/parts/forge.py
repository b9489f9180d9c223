"""Pull requests on GitHub, GitLab, and Gitea or Forgejo: what is asked there, and who approved it.

A few requests, over one client with our own limits and errors: a library for each forge would bring three ways to wait
and to fail, and for Gitea there is none that is well kept. The token is in DELIVERY_FORGE_TOKEN; it is sent to the
site's forge alone, in a header, and no redirect is followed with it.
"""

import os
import re
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from delivery.errors import BadInput, NotReached, PlatformError, Refused
from delivery.parts import certificates
from delivery.site import Forge as Where
from delivery.site import Site

TOKEN = "DELIVERY_FORGE_TOKEN"  # noqa: S105 - the variable's name
NAMED = "DELIVERY_FORGE"  # the page of the repository that the token is for
SECONDS = 20.0  # of each request
_PAGES, _PAGE = 10, 50  # at most so many pages are read: more is an error, never a part
_PUBLIC = {"github.com": "github", "gitlab.com": "gitlab"}
Object = dict[str, Any]


class ForgeRefused(PlatformError):
    """The forge answered, and said no or nothing that makes sense; `status` is its HTTP status."""

    def __init__(self, message: str, hint: str, status: int) -> None:
        super().__init__(message, hint)
        self.status = status


class ForgeUnreachable(NotReached):
    """The forge did not answer in time, or is broken; what stands there is unknown."""


@dataclass(frozen=True)
class PullRequest:
    """A pull request, as the forge tells it."""

    number: int
    page: str
    title: str
    author: str  # the login
    branch: str
    base: str
    head: str  # the newest commit of the branch
    state: str  # open, merged or closed
    merged: str  # the commit by which it came into the base; empty where it did not


@dataclass(frozen=True)
class Review:
    """The newest word of one person: whether it approves, which commit, and since when."""

    login: str
    approves: bool
    commit: str  # empty where the forge cannot tell
    at: datetime
    says: str  # in the forge's own word


class Forge(ABC):
    """One repository on a forge; use it in a `with`.

    Each question raises ForgeRefused or ForgeUnreachable where there is no answer. None of them is asked twice.
    """

    api = ""  # below the forge's address
    head_ref = ""  # where the Git server keeps the newest commit of a pull request

    def __init__(self, where: Where, http: httpx.Client) -> None:
        self.where = where
        self._http = http

    @abstractmethod
    def opened(self, branch: str, base: str) -> PullRequest | None:
        """The open one from a branch of this very repository into another."""

    @abstractmethod
    def open(self, branch: str, base: str, title: str, body: str) -> PullRequest:
        """Open one."""

    @abstractmethod
    def update(self, number: int, title: str, body: str) -> PullRequest:
        """Say something else in it."""

    @abstractmethod
    def label(self, number: int, labels: Sequence[str]) -> None:
        """Add these labels to those that it has."""

    @abstractmethod
    def merged_as(self, commit: str, base: str) -> PullRequest | None:
        """The merged one by which a commit came into the base."""

    @abstractmethod
    def reviews(self, of: PullRequest) -> list[Review]:
        """The newest word of each person about it; who only commented said nothing."""

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        """One request below the API; what it answers, as JSON, or None where nothing is there."""
        what = f"{method} {path.partition('?')[0]}"
        host = urlsplit(self.where.url).netloc
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ForgeUnreachable(
                f"{host} does not answer: {what}: {type(error).__name__}", "is it up? run it again"
            ) from None
        status = answer.status_code
        if status == 404 and method == "GET":
            return None
        if status >= 500 or status == 429:
            raise ForgeUnreachable(f"{host} answers {status} to {what}", "run it again when it is well")
        if not answer.is_success:
            raise ForgeRefused(
                f"{host}: {what}: {status} {_why(answer)}", _remedy(self.where, status), status
            )
        try:
            return answer.json()
        except ValueError:
            raise ForgeRefused(
                f"{host}: {what}: an answer that is no JSON",
                f"is {self.where.url} a {self.where.kind}?",
                status,
            ) from None

    def _found(self, path: str, **parameters: Any) -> Any:
        """The same of what must be there."""
        found = self._ask("GET", path, params=parameters)
        if found is None:
            raise ForgeRefused(
                f"{urlsplit(self.where.url).netloc}: GET {path}: 404", _remedy(self.where, 404), 404
            )
        return found

    def _all(self, path: str, size: str, **parameters: Any) -> list[Object]:
        """All pages of a list."""
        listed: list[Object] = []
        for page in range(1, _PAGES + 1):
            some = self._found(path, **parameters, page=page, **{size: _PAGE})
            if not isinstance(some, list):
                raise self._strange(path)
            listed += some
            if len(some) < _PAGE:
                return listed
        raise ForgeRefused(
            f"{path} lists more than {_PAGES * _PAGE}: not all of them are read", "close what is old", 200
        )

    def _strange(self, what: str) -> ForgeRefused:
        return ForgeRefused(
            f"{urlsplit(self.where.url).netloc}: {what}: an answer that no {self.where.kind} gives",
            f"is {self.where.url} a {self.where.kind}?",
            200,
        )

    @contextmanager
    def _read(self, what: str) -> Iterator[None]:
        """What an answer lacks is told as such, and nothing is guessed."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._strange(what) from None


class _Pulls(Forge):
    """What GitHub's API and Gitea's have in common."""

    head_ref = "refs/pull/{}/head"
    size = ""  # the name of the parameter for the length of a page
    approving, refusing = "APPROVED", ""

    def opened(self, branch: str, base: str) -> PullRequest | None:
        listed = self._all(self._path("pulls"), self.size, state="open", **self._from(branch, base))
        with self._read("pulls"):
            found = [self._pull(one) for one in listed if _ours(one, branch, base)]
        return found[0] if found else None

    def open(self, branch: str, base: str, title: str, body: str) -> PullRequest:
        data = {"title": title, "head": branch, "base": base, "body": body}
        made = self._ask("POST", self._path("pulls"), json=data)
        with self._read("pulls"):
            return self._pull(made)

    def update(self, number: int, title: str, body: str) -> PullRequest:
        made = self._ask("PATCH", self._path(f"pulls/{number}"), json={"title": title, "body": body})
        with self._read("pulls"):
            return self._pull(made)

    def reviews(self, of: PullRequest) -> list[Review]:
        listed = self._all(self._path(f"pulls/{of.number}/reviews"), self.size)
        with self._read("reviews"):
            said = [self._review(one) for one in listed if one["state"] in self._telling]
        return _newest(said)

    @property
    def _telling(self) -> tuple[str, ...]:
        return (self.approving, self.refusing, "DISMISSED")

    def _review(self, one: Object) -> Review:
        dismissed = one["state"] == "DISMISSED" or bool(one.get("dismissed"))
        says = "DISMISSED" if dismissed else str(one["state"])
        # Whoever is gone from the forge is nobody's login.
        login = str((one.get("user") or {}).get("login") or "")
        return Review(
            *(login, says == self.approving, str(one.get("commit_id") or "")),
            *(datetime.fromisoformat(one["submitted_at"]), says),
        )

    def _from(self, branch: str, base: str) -> Mapping[str, str]:
        return {}

    def _path(self, what: str) -> str:
        return f"repos/{self.where.repository}/{what}"

    def _pull(self, one: Object) -> PullRequest:
        merged = bool(one.get("merged_at"))
        state = "merged" if merged else str(one["state"])
        return PullRequest(
            *(int(one["number"]), str(one["html_url"]), str(one["title"]), str(one["user"]["login"])),
            *(str(one["head"]["ref"]), str(one["base"]["ref"]), str(one["head"]["sha"]), state),
            str(one["merge_commit_sha"]) if merged else "",
        )


class _GitHub(_Pulls):
    """https://docs.github.com/rest/pulls; the version of the API is said with each request."""

    api = "api/v3"  # of an Enterprise Server; github.com has a host for it
    size = "per_page"
    refusing = "CHANGES_REQUESTED"

    def label(self, number: int, labels: Sequence[str]) -> None:
        self._ask("POST", self._path(f"issues/{number}/labels"), json={"labels": list(labels)})

    def merged_as(self, commit: str, base: str) -> PullRequest | None:
        listed = self._all(self._path(f"commits/{commit}/pulls"), self.size)
        with self._read("pulls"):
            return _only([one for one in map(self._pull, listed) if one.merged and one.base == base], commit)

    def _from(self, branch: str, base: str) -> Mapping[str, str]:
        return {"head": f"{self.where.repository.partition('/')[0]}:{branch}", "base": base}


class _Gitea(_Pulls):
    """Gitea's swagger, which Forgejo keeps to; https://docs.gitea.com/api."""

    api = "api/v1"
    size = "limit"
    refusing = "REQUEST_CHANGES"

    def label(self, number: int, labels: Sequence[str]) -> None:
        known = self._all(self._path("labels"), self.size)
        with self._read("labels"):
            ids = {str(one["name"]): int(one["id"]) for one in known}
            for name in labels:
                if name not in ids:
                    data = {"name": name, "color": "#1d76db"}
                    ids[name] = int(self._ask("POST", self._path("labels"), json=data)["id"])
        wanted = [ids[name] for name in labels]
        self._ask("POST", self._path(f"issues/{number}/labels"), json={"labels": wanted})

    def merged_as(self, commit: str, base: str) -> PullRequest | None:
        found = self._ask("GET", self._path(f"commits/{commit}/pull"))
        with self._read("pull"):
            one = self._pull(found) if found else None
        return one if one and one.merged and one.base == base else None


class _GitLab(Forge):
    """https://docs.gitlab.com/api/merge_requests and …/merge_request_approvals.

    An approval names no commit there: it is about the newest version that was pushed before it.
    """

    api = "api/v4"
    head_ref = "refs/merge-requests/{}/head"

    def opened(self, branch: str, base: str) -> PullRequest | None:
        asked = {"state": "opened", "source_branch": branch, "target_branch": base}
        listed = self._all(self._path("merge_requests"), "per_page", **asked)
        with self._read("merge_requests"):
            ours = [one for one in listed if one["source_project_id"] == one["target_project_id"]]
            return self._request(ours[0]) if ours else None

    def open(self, branch: str, base: str, title: str, body: str) -> PullRequest:
        data = {"source_branch": branch, "target_branch": base, "title": title, "description": body}
        made = self._ask("POST", self._path("merge_requests"), json=data)
        with self._read("merge_requests"):
            return self._request(made)

    def update(self, number: int, title: str, body: str) -> PullRequest:
        data = {"title": title, "description": body}
        made = self._ask("PUT", self._path(f"merge_requests/{number}"), json=data)
        with self._read("merge_requests"):
            return self._request(made)

    def label(self, number: int, labels: Sequence[str]) -> None:
        self._ask("PUT", self._path(f"merge_requests/{number}"), json={"add_labels": ",".join(labels)})

    def merged_as(self, commit: str, base: str) -> PullRequest | None:
        listed = self._all(self._path(f"repository/commits/{commit}/merge_requests"), "per_page")
        with self._read("merge_requests"):
            found = [self._request(one) for one in listed]
            return _only([one for one in found if one.state == "merged" and one.base == base], commit)

    def reviews(self, of: PullRequest) -> list[Review]:
        path = self._path(f"merge_requests/{of.number}")
        approvals = self._found(f"{path}/approvals")
        pushed = self._all(f"{path}/versions", "per_page")
        with self._read("approvals"):
            versions = sorted(
                (datetime.fromisoformat(one["created_at"]), str(one["head_commit_sha"])) for one in pushed
            )
            return [_about(versions, one) for one in approvals["approved_by"]]

    def _path(self, what: str) -> str:
        return f"projects/{quote(self.where.repository, safe='')}/{what}"

    def _request(self, one: Object) -> PullRequest:
        state = {"opened": "open"}.get(one["state"], str(one["state"]))
        merged = one.get("merge_commit_sha") or one.get("squash_commit_sha") or one["sha"]
        return PullRequest(
            *(int(one["iid"]), str(one["web_url"]), str(one["title"]), str(one["author"]["username"])),
            *(str(one["source_branch"]), str(one["target_branch"]), str(one["sha"]), state),
            str(merged) if state == "merged" else "",
        )


def _about(versions: Sequence[tuple[datetime, str]], approval: Object) -> Review:
    """An approval on GitLab, and the newest of these versions that was there when it was given."""
    at = datetime.fromisoformat(approval["approved_at"])
    commit = next((sha for since, sha in reversed(versions) if since <= at), "")
    return Review(str(approval["user"]["username"]), True, commit, at, "approved")


_KINDS: Mapping[str, type[Forge]] = {"github": _GitHub, "gitlab": _GitLab, "gitea": _Gitea}


def of(site: Site) -> Where:
    """The forge of a site; BadInput where neither `forge` nor the address of its Git server says which it is."""
    if site.forge:
        return site.forge
    url = urlsplit(site.git.url if "://" in site.git.url else f"ssh://{site.git.url.replace(':', '/', 1)}")
    kind = _PUBLIC.get(url.hostname or "")
    if kind is None and site.made_here:
        raise BadInput(f"site {site.name} has no forge", "choose a site of the team's own: --site")
    if kind is None:
        raise BadInput(
            f"site {site.name} names no forge",
            f"say under {site.name} in pipeline.yaml: forge: {{ kind: github|gitlab|gitea, url: …, repository: … }}",
        )
    repository = url.path.strip("/").removesuffix(".git")
    return Where.model_validate({"kind": kind, "url": f"https://{url.hostname}", "repository": repository})


def insist_named(where: Where) -> None:
    """Return when DELIVERY_FORGE names this repository: whoever keeps the token says so, not a push.

    PlatformError where it is not set, Refused where it names another.
    """
    named = os.environ.get(NAMED, "").rstrip("/")
    if not named:
        raise PlatformError(
            f"{NAMED} is not set: it says, beside the token, on which repository reviews count",
            f"set it where {TOKEN} is set, to the repository's page: https://FORGE/OWNER/NAME",
        )
    if named.lower() != where.page.lower():
        raise Refused(
            f"reviews count on {named}, and pipeline.yaml names {where.page}",
            f"see forge of the site in pipeline.yaml, or change {NAMED} where the token is kept",
        )


@contextmanager
def connect(where: Where, seconds: float = SECONDS) -> Iterator[Forge]:
    """A repository on its forge, with the token of DELIVERY_FORGE_TOKEN; PlatformError where there is none.

    Refused where DELIVERY_FORGE names another one: the token is not for that.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise PlatformError(
            f"{TOKEN} {'holds no token' if token else 'is not set'}: {where.page} is asked with a token",
            "make one that may write pull requests, and set it",
        )
    if os.environ.get(NAMED):
        insist_named(where)
    kind = _KINDS[where.kind]
    url = where.url.rstrip("/")
    base = "https://api.github.com" if url == "https://github.com" else f"{url}/{kind.api}"
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    if where.kind == "github":
        headers |= {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    trusts = ssl.create_default_context(cafile=certificates.system())
    with httpx.Client(base_url=base, headers=headers, timeout=seconds, verify=trusts) as http:
        yield kind(where, http)


def _ours(one: Object, branch: str, base: str) -> bool:
    """Whether it is from a branch of the very repository that it asks, and not from a fork's of the same name."""
    head, into = one["head"], one["base"]
    same = (head.get("repo") or {}).get("full_name") == into["repo"]["full_name"]
    return bool(same and head["ref"] == branch and into["ref"] == base)


def _newest(said: Sequence[Review]) -> list[Review]:
    newest: dict[str, Review] = {}
    for one in sorted(said, key=lambda one: one.at):
        newest[one.login.lower()] = one
    return [one for login, one in newest.items() if login]


def _only(found: Sequence[PullRequest], commit: str) -> PullRequest | None:
    if len(found) > 1:
        numbers = ", ".join(str(one.number) for one in found)
        raise Refused(
            f"commit {commit[:12]} came by more than one pull request: {numbers}", "merge one at a time"
        )
    return found[0] if found else None


def _why(answer: httpx.Response) -> str:
    try:
        said = answer.json()
        message = said.get("message") or said.get("error") or ""
        errors = said.get("errors")
        text = f"{message} {errors if errors else ''}"
    except (ValueError, AttributeError):
        text = answer.reason_phrase
    return " ".join(str(text).split())[:200]


def _remedy(where: Where, status: int) -> str:
    if status == 401:
        return f"{TOKEN} is no token of {where.url}, or it expired"
    if status == 403:
        return f"give the token of {TOKEN} the right to write pull requests of {where.repository}"
    if status == 404:
        return f"is it {where.page}, and may the token of {TOKEN} see it?"
    return f"look at {where.page}"
