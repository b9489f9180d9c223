"""An image repository in any OCI registry: which digest a tag has, what is in there, what an image says about itself.

python-dxf speaks the protocol and logs in, with a password or by the token flow of GHCR, GAR, Docker Hub and GitLab;
docker's own configuration has the login (logins). oras-py was tried against CNCF distribution's token auth and not
taken: it keeps its first token, so that a push after a read is refused, and everything once that token has expired; it
takes a credential helper that is not installed for no login; it has no time limits, and tries again for two minutes
what is refused. dxf gets a new token whenever the registry asks, and gives a manifest's bytes as they came.

What is attached to an image is found by its tag (sha256-….att), so a registry without the referrers API will do.
"""

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import requests
from dxf import DXF
from dxf.exceptions import DXFDigestMismatchError, DXFError, DXFUnauthorizedError
from requests.exceptions import ChunkedEncodingError, HTTPError, RequestException, SSLError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from delivery.errors import PlatformError
from delivery.parts import certificates, logins
from delivery.parts.daemon import causes
from delivery.site import ImageRepository

T = TypeVar("T")

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ATTESTATION = "unknown/unknown"  # the platform that BuildKit gives to what it says about an image
_PAGE = 1000
# Docker Hub's registry has another name than its images.
_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"


class RegistryUnreachable(PlatformError):
    """The registry does not answer; what it holds is unknown."""


class RegistryUntrusted(PlatformError):
    """The registry's certificate is of an authority that is not known here; nothing was asked."""


class RegistryRefused(PlatformError):
    """The registry answered, and not with what was asked for."""


class LoginRefused(RegistryRefused):
    """The registry asks for a login that is not there, or does not take the one that is."""


class Falsified(RegistryRefused):
    """The registry answered with something else than what the digest stands for."""


@dataclass(frozen=True)
class Image:
    """What a digest stands for: one image, or an index of images for several platforms, its children."""

    configs: Mapping[str, Mapping[str, Any]]  # platform, such as linux/arm64 -> labels, environment, …
    children: Mapping[str, str] = field(default_factory=dict)  # digest -> platform; none for a single image


@dataclass(frozen=True)
class Manifest:
    """A manifest as the registry stores it: these bytes have this digest."""

    digest: str
    media_type: str
    body: bytes


class Registry:
    """One image repository, in its registry; use it in a `with`. Threads may share it: they take turns."""

    def __init__(self, repository: ImageRepository, seconds: float = 10) -> None:
        self.repository = repository
        self.host = repository.host
        self._seconds = seconds
        self._login: logins.Lookup | None = None
        self._turn = threading.Lock()  # dxf keeps the token that it got last
        self._blobs: dict[str, bytes] = {}
        self._beside: dict[str, Registry] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        where = self.repository
        with ExitStack() as opened:
            authorities = opened.enter_context(certificates.with_system(where.ca))
            self._dxf = opened.enter_context(
                _Client(
                    _HUB_HOST if self.host == _HUB else self.host,
                    where.path,
                    self._log_in,
                    insecure=where.plain_http,
                    tlsverify=str(authorities),
                    timeout=self._seconds,
                )
            )
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def beside(self, repository: ImageRepository) -> "Registry":
        """Another repository with the login of this one: over the same connection where the registry is the same.

        It is closed together with this one.
        """
        if repository.here == self.repository.here:
            return self
        with self._turn:
            if repository.here not in self._beside:
                other = Registry(repository, self._seconds)
                if other.host == self.host:
                    other._share(self)
                else:
                    self._open.enter_context(other)
                self._beside[repository.here] = other
            return self._beside[repository.here]

    def _share(self, other: "Registry") -> None:
        self._login, self._turn = other._login, other._turn
        self._dxf = other._dxf.beside(self.repository.path, self._log_in)

    def ping(self) -> None:
        """Return when the registry answers and takes our login."""
        self._ask("GET /v2/", self._dxf.api_version_check)

    def digest(self, reference: str) -> str | None:
        """The digest that a tag (or digest) has now, or None when it is not there."""
        answer = self._manifest("head", reference)
        if answer is None:
            return None
        digest = answer.headers.get("docker-content-digest", "")
        if not digest.startswith("sha256:"):
            raise RegistryRefused(
                f"registry {self.host} named no digest for {self.repository.path}:{reference}", _DOCTOR
            )
        return str(digest)

    def tags(self) -> list[str]:
        """All tags of the repository; none when there is no such repository."""
        return (
            self._ask("the tags", lambda: list(self._dxf.list_aliases(batch_size=_PAGE)), missing=True) or []
        )

    def manifest(self, reference: str) -> Manifest | None:
        """The manifest behind a tag or digest, its bytes checked against its digest."""
        answer = self._manifest("get", reference)
        if answer is None:
            return None
        digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        if (reference.startswith("sha256:") and reference != digest) or answer.headers.get(
            "docker-content-digest", digest
        ) != digest:
            raise Falsified(
                f"registry {self.host}: the content of {self.repository.path} {reference} does not have its digest",
                _DOCTOR,
            )
        return Manifest(digest, answer.headers.get("content-type", MANIFESTS[0]), answer.content)

    def image(self, digest: str) -> Image | None:
        """What a digest stands for, down to the configurations, all checked against their digests."""
        manifest = self.manifest(digest)
        if manifest is None:
            return None
        try:
            listed = json.loads(manifest.body).get("manifests")
            if listed is not None:
                return self._index(digest, listed)
            config = self._config(manifest)
            return Image({_platform(config): config})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RegistryRefused(f"{self.repository.path}@{digest} is not an image", _AGAIN) from None

    def _index(self, digest: str, listed: list[dict[str, Any]]) -> Image:
        children, configs = {}, {}
        name = f"{self.repository.path}@{digest}"
        for one in listed:
            told = _platform(one.get("platform") or {})
            if told == _ATTESTATION or "vnd.docker.reference.type" in (one.get("annotations") or {}):
                continue
            child = self.manifest(one["digest"])
            if child is None:
                raise Falsified(f"{name} lists {one['digest']}, which is not there", _AGAIN)
            config = self._config(child)
            children[child.digest] = told or _platform(config)
            configs[children[child.digest]] = config
        if not children:
            raise RegistryRefused(f"{name} is an index without an image", _AGAIN)
        return Image(configs, children)

    def _config(self, manifest: Manifest) -> dict[str, Any]:
        return dict(json.loads(self._blob(str(json.loads(manifest.body)["config"]["digest"]))))

    def attestations(self, digest: str) -> list[bytes]:
        """The signed statements that are attached to a digest, in the order of their coming, not verified."""
        manifest = self.manifest(f"{digest.replace(':', '-')}.att")
        if manifest is None:
            return []
        try:
            layers = [str(layer["digest"]) for layer in json.loads(manifest.body)["layers"]]
        except (ValueError, KeyError, TypeError):
            raise RegistryRefused(
                f"registry {self.host}: what is attached to {digest[:19]} cannot be read", _DOCTOR
            ) from None
        return [self._blob(layer) for layer in layers]

    def _blob(self, digest: str) -> bytes:
        # What its digest says for ever; who attaches a statement reads what is there before and after.
        if digest in self._blobs:
            return self._blobs[digest]
        found = self._ask(f"blob {digest}", lambda: self._dxf.blob(digest), missing=True)
        if found is None:
            raise RegistryRefused(
                f"registry {self.host} has lost a part of {self.repository.path}: {digest}", _DOCTOR
            )
        self._blobs[digest] = found
        return found

    def tag(self, manifest: Manifest, tag: str) -> None:
        """Give a manifest that is already there one more tag: the same bytes, so the same digest."""
        headers = {"Content-Type": manifest.media_type}
        path = f"manifests/{tag}"
        self._ask(f"PUT {path}", lambda: self._dxf.ask("put", path, data=manifest.body, headers=headers))

    def _manifest(self, method: str, reference: str) -> Any:
        path, headers = f"manifests/{reference}", {"Accept": ", ".join(MANIFESTS)}
        return self._ask(
            f"{method.upper()} {path}", lambda: self._dxf.ask(method, path, headers=headers), missing=True
        )

    def _ask(self, what: str, ask: Callable[[], T], *, missing: bool = False) -> T | None:
        try:
            for attempt in Retrying(
                retry=retry_if_exception(_passes),
                stop=stop_after_attempt(3),
                wait=wait_exponential(multiplier=0.1, max=1),
                reraise=True,
            ):
                with attempt, self._turn:
                    return ask()
        except HTTPError as error:
            if error.response is not None and error.response.status_code == 404 and missing:
                return None
            raise self._said(what, error) from None
        except DXFUnauthorizedError:
            raise self._not_logged_in() from None
        except DXFDigestMismatchError as error:
            raise Falsified(
                f"registry {self.host} has another content for {self.repository.path} {error.expected}",
                _DOCTOR,
            ) from None
        except (DXFError, RequestException, ValueError, KeyError) as error:
            raise self._broken(what, error) from None
        return None

    def _log_in(self, client: Any, answer: requests.Response) -> None:
        if self._login is None:
            self._login = logins.find(self.host, self.repository.docker_config)
        login = self._login.login
        if self.repository.plain_http:
            if login:
                client.password(login)
            return
        client.authenticate(*((login.username, login.password) if login else ()), response=answer)

    def _not_logged_in(self) -> LoginRefused:
        found = self._login or logins.Lookup(None, "nobody")
        if found.login is None:
            return LoginRefused(
                f"registry {self.host} asks for a login, and {found.asked} has none for it",
                self.repository.log_in,
            )
        return LoginRefused(
            f"registry {self.host} does not take our login, {found.login.username} of {found.asked}",
            self.repository.log_in,
        )

    def _said(self, what: str, error: HTTPError) -> RegistryRefused:
        answer: Any = error.response
        text = f"registry {self.host}: {what}: {answer.status_code} {' '.join(answer.text.split())[:200]}"
        if answer.status_code != 403:
            return RegistryRefused(text, _DOCTOR)
        found = self._login.login if self._login else None
        who = found.username if found else "whoever has no login"
        return LoginRefused(f"{text} (asked as {who})", f"give that user the right to {self.repository.path}")

    def _broken(self, what: str, error: Exception) -> PlatformError:
        host = self._asked_host(error)
        inside = list(causes(error))
        if wrong := next((one for one in inside if isinstance(one, ssl.SSLCertVerificationError)), None):
            known = f"{certificates.system()} and {self.repository.ca or 'no other, for the site names none'}"
            return RegistryUntrusted(
                f"the certificate of {host} is not trusted: {wrong.verify_message} (known: {known})",
                "name its authority's file as `ca` of the site's image repository, or add it to the system's",
            )
        if any(isinstance(one, ssl.SSLError) for one in inside):
            return RegistryUnreachable(
                f"registry {host} does not speak TLS: {type(error).__name__}",
                "is it the right host and port? plain HTTP is for a local site alone",
            )
        if _passes(error):
            return RegistryUnreachable(f"registry {host} does not answer ({type(error).__name__})", _DOCTOR)
        return RegistryRefused(
            f"registry {self.host}: {what}: an answer that no registry gives ({type(error).__name__}: {error})"[
                :300
            ],
            "is it a registry? the site names host and path of an image repository",
        )

    def _asked_host(self, error: Exception) -> str:
        # The token server, or where the blobs are, may be elsewhere.
        url = getattr(getattr(error, "request", None), "url", None)
        host = urlsplit(str(url)).netloc if url else ""
        return (
            f"{host}, which {self.host} names," if host and host not in (self.host, _HUB_HOST) else self.host
        )


class _Client(DXF):  # type: ignore[misc]
    """dxf, with what it lacks: a request as it is, and a password over plain HTTP where the site says so."""

    def __enter__(self) -> Self:
        super().__enter__()
        session: Any = self._sessions[0]
        session.auth = _as_it_is
        session.trust_env = not self._insecure  # no proxy between this machine and itself
        return self

    def beside(self, path: str, log_in: Callable[[Any, requests.Response], None]) -> Self:
        """The same connection for another repository of the registry."""
        other = type(self).from_base(self, path)
        other._auth = log_in
        if self._token:  # which is good for one repository
            other._token, other._headers = None, {}
        return other

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request below the repository; HTTPError, or DXFUnauthorizedError."""
        answer: requests.Response = self._request(method, path, **options)
        return answer

    def blob(self, digest: str) -> bytes:
        """All of a blob; DXFDigestMismatchError where its bytes are others."""
        bits: Any = self.pull_blob(digest)
        return b"".join(bits)

    def password(self, login: logins.Login) -> None:
        """Send this login with each request from now on."""
        word = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {word}"}


def _as_it_is(request: Any) -> Any:
    """Leave a request's login alone: without this, requests puts one of ~/.netrc in its place."""
    return request


def _passes(error: BaseException) -> bool:
    """Whether it may work a moment later: nobody answered, or a connection broke."""
    lost = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)
    return isinstance(error, lost) and not isinstance(error, SSLError)


_DOCTOR = "is it a registry, and well? ask it by hand: docker manifest inspect"
_AGAIN = "build it again: delivery build"


def _platform(told: Mapping[str, Any]) -> str:
    return "/".join(filter(None, [str(told.get("os") or ""), str(told.get("architecture") or "")]))


def connect(repository: ImageRepository) -> Registry:
    """A site's image repository, with the login that docker has for it."""
    return Registry(repository)
