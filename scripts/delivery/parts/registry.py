"""The registry's HTTP API: which digest a tag has, what is in there, what an image says about itself."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from delivery.errors import PlatformError
from delivery.site import ImageRepository

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ATTESTATION = "unknown/unknown"  # the platform that BuildKit gives to what it says about an image


@dataclass(frozen=True)
class Login:
    """One user of one server; its text form never shows the password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"


class RegistryUnreachable(PlatformError):
    """The registry does not answer; what it holds is unknown."""


class RegistryRefused(PlatformError):
    """The registry answered, and not with what was asked for."""


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
    """One registry, by host:port, with one login; use it in a `with`."""

    def __init__(self, host: str, login: Login, seconds: float = 10) -> None:
        self.host = host
        self._http = httpx.Client(
            base_url=f"http://{host}/v2/",
            auth=(login.username, login.password),
            timeout=seconds,
            trust_env=False,
            verify=False,  # noqa: S501 - plain HTTP; to read the system's authorities takes longer than the rest
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def ping(self) -> None:
        """Return when the registry answers and takes our login."""
        self._ask("GET", "")

    def digest(self, repository: str, reference: str) -> str | None:
        """The digest that a tag (or digest) has now, or None when it is not there."""
        answer = self._ask("HEAD", f"{repository}/manifests/{reference}", accept=MANIFESTS, missing=True)
        if answer is None:
            return None
        digest = answer.headers.get("docker-content-digest", "")
        if not digest.startswith("sha256:"):
            raise RegistryRefused(
                f"registry {self.host} named no digest for {repository}:{reference}", _DOCTOR
            )
        return str(digest)

    def tags(self, repository: str) -> list[str]:
        """All tags of a repository; none when there is no such repository."""
        tags: list[str] = []
        path = f"{repository}/tags/list?n=1000"
        while path:
            answer = self._ask("GET", path, missing=True)
            if answer is None:
                return tags
            tags += answer.json().get("tags") or []
            following = re.search(r'<(?:[^>]*/v2/)?([^>]+)>;\s*rel="?next', answer.headers.get("link", ""))
            path = following.group(1) if following else ""
        return tags

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """The manifest behind a tag or digest, its bytes checked against its digest."""
        answer = self._ask("GET", f"{repository}/manifests/{reference}", accept=MANIFESTS, missing=True)
        if answer is None:
            return None
        digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        if (reference.startswith("sha256:") and reference != digest) or answer.headers.get(
            "docker-content-digest", digest
        ) != digest:
            raise Falsified(
                f"registry {self.host}: the content of {repository} {reference} does not have its digest",
                _DOCTOR,
            )
        return Manifest(digest, answer.headers.get("content-type", MANIFESTS[0]), answer.content)

    def image(self, repository: str, digest: str) -> Image | None:
        """What a digest stands for, down to the configurations, all checked against their digests."""
        manifest = self.manifest(repository, digest)
        if manifest is None:
            return None
        try:
            listed = json.loads(manifest.body).get("manifests")
            if listed is not None:
                return self._index(repository, digest, listed)
            config = self._config(repository, manifest)
            return Image({_platform(config): config})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RegistryRefused(f"{repository}@{digest} is not an image", _AGAIN) from None

    def _index(self, repository: str, digest: str, listed: list[dict[str, Any]]) -> Image:
        children, configs = {}, {}
        for one in listed:
            told = _platform(one.get("platform") or {})
            if told == _ATTESTATION or "vnd.docker.reference.type" in (one.get("annotations") or {}):
                continue
            child = self.manifest(repository, one["digest"])
            if child is None:
                raise Falsified(f"{repository}@{digest} lists {one['digest']}, which is not there", _AGAIN)
            config = self._config(repository, child)
            children[child.digest] = told or _platform(config)
            configs[children[child.digest]] = config
        if not children:
            raise RegistryRefused(f"{repository}@{digest} is an index without an image", _AGAIN)
        return Image(configs, children)

    def _config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        return dict(json.loads(self._blob(repository, str(json.loads(manifest.body)["config"]["digest"]))))

    def attestations(self, repository: str, digest: str) -> list[bytes]:
        """The signed statements that are attached to a digest, in the order of their coming, not verified."""
        manifest = self.manifest(repository, f"{digest.replace(':', '-')}.att")
        if manifest is None:
            return []
        try:
            layers = [str(layer["digest"]) for layer in json.loads(manifest.body)["layers"]]
        except (ValueError, KeyError, TypeError):
            raise RegistryRefused(
                f"registry {self.host}: what is attached to {digest[:19]} cannot be read", _DOCTOR
            ) from None
        return [self._blob(repository, layer) for layer in layers]

    def _blob(self, repository: str, digest: str) -> bytes:
        answer = self._ask("GET", f"{repository}/blobs/{digest}", missing=True)
        if answer is None:
            raise RegistryRefused(f"registry {self.host} has lost a part of {repository}: {digest}", _DOCTOR)
        if f"sha256:{hashlib.sha256(answer.content).hexdigest()}" != digest:
            raise Falsified(f"registry {self.host} has another content for {repository} {digest}", _DOCTOR)
        return bytes(answer.content)

    def tag(self, repository: str, manifest: Manifest, tag: str) -> None:
        """Give a manifest that is already there one more tag: the same bytes, so the same digest."""
        self._ask(
            "PUT",
            f"{repository}/manifests/{tag}",
            content=manifest.body,
            headers={"Content-Type": manifest.media_type},
        )

    def _ask(
        self,
        method: str,
        path: str,
        *,
        accept: tuple[str, ...] = (),
        missing: bool = False,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        headers = (headers or {}) | ({"Accept": ", ".join(accept)} if accept else {})
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(httpx.TransportError),
                stop=stop_after_attempt(3),
                wait=wait_exponential(multiplier=0.1, max=1),
                reraise=True,
            ):
                with attempt:
                    answer = self._http.request(method, path, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise RegistryUnreachable(
                f"registry {self.host} does not answer ({type(error).__name__})", _DOCTOR
            ) from None
        if answer.status_code == 404 and missing:
            return None
        if answer.status_code in (401, 403):
            raise RegistryRefused(
                f"registry {self.host} does not take our login", "make it again: delivery up"
            )
        if answer.is_error or answer.is_redirect:
            raise RegistryRefused(
                f"registry {self.host}: {method} {path}: {answer.status_code} "
                f"{' '.join(answer.text.split())[:200]}",
                _DOCTOR,
            )
        return answer


_DOCTOR = "look what is missing: delivery doctor"
_AGAIN = "build it again: delivery build"


def _platform(told: Mapping[str, Any]) -> str:
    return "/".join(filter(None, [str(told.get("os") or ""), str(told.get("architecture") or "")]))


def login(image: ImageRepository) -> Login:
    """The user and password of a registry, from docker's own configuration."""
    from docker import auth

    file = image.docker_config / "config.json" if image.docker_config else None
    found = auth.load_config(config_path=str(file) if file else None).resolve_authconfig(image.host) or {}
    return Login(found.get("username") or "", found.get("password") or "")


def connect(image: ImageRepository) -> Registry:
    """The registry of an image, with the login that docker's configuration has for it."""
    return Registry(image.host, login(image))
