"""Whose signature is on a commit: that of a developer, whose key pipeline.yaml names and the repository holds."""

from collections.abc import Iterable
from dataclasses import dataclass

from delivery.parts import openpgp, ssh
from delivery.parts.git import Repository, signature_of
from delivery.pipeline import Developer


@dataclass(frozen=True)
class Key:
    """The public key of a developer, as one commit has it."""

    owner: Developer
    text: str
    id: str  # the same for the same key, whatever else its file says
    revoked: bool = False

    def claims(self, signature: str) -> bool:
        """Whether a signature says that this key made it."""
        if self._is_ssh != signature.startswith(ssh.ARMOR):
            return False
        return (ssh if self._is_ssh else openpgp).claims(self.text, signature)

    def objection(self, content: bytes, signature: str) -> str:
        """Why a signature that names this key does not count; empty when it does. PlatformError without ssh-keygen."""
        said = f"is signed with the key of {self.owner.name}, which"
        # An SSH key has no date and is not revoked: it is taken out of pipeline.yaml.
        if not self._is_ssh and (why := openpgp.over(self.text, signature)):
            return f"{said} {why}"
        if not (ssh if self._is_ssh else openpgp).verified(self.text, content, signature):
            return f"names the key of {self.owner.name}, which did not sign it"
        return ""

    @property
    def _is_ssh(self) -> bool:
        return not self.text.lstrip().startswith("-----BEGIN PGP")


@dataclass(frozen=True)
class Signature:
    """What is known of the signature of one commit: whose it is, or says it is, and why it does not count."""

    by: tuple[Developer, ...]
    objection: str


@dataclass(frozen=True)
class Keyring:
    """The keys of all developers, as one commit has them; `faults` are those that it has not, or not as keys."""

    keys: tuple[Key, ...] = ()
    faults: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anybody is asked to sign."""
        return bool(self.keys or self.faults)

    def signature(self, commit: bytes) -> Signature:
        """Who signed a commit, as it is stored. PlatformError when that needs ssh-keygen and there is none."""
        return self.by(*signature_of(commit))

    def by(self, content: bytes, signature: str) -> Signature:
        """The same of anything that git signs: what the signature is about, and the signature."""
        if not signature:
            return Signature((), "is not signed")
        named = [one for one in self.keys if one.claims(signature)]
        if not named:
            return Signature((), "is signed with a key that developers in pipeline.yaml do not have")
        against = [one.objection(content, signature) for one in named]
        return Signature(tuple(one.owner for one in named), "" if "" in against else against[0])


def at(repository: Repository, commit: str, developers: Iterable[Developer]) -> Keyring:
    """Their keys as a commit has them: never from the working tree."""
    keys: list[Key] = []
    faults: list[str] = []
    for one in developers:
        text = repository.show(commit, one.key)
        if text is None:
            faults.append(f"the key of {one.name} is not in Git: {one.key} (git add)")
            continue
        try:
            keys.append(_key(one, text.decode("ascii")))
        except (openpgp.NoKey, UnicodeDecodeError) as error:
            faults.append(f"{one.key} holds no public key of {one.name}: {error}")
    return Keyring(tuple(keys), tuple(faults))


def weaker(before: Keyring, after: Keyring) -> list[str]:
    """Where another key stands in place of one, or one whose owner took it back counts again; empty when nowhere."""
    reasons = []
    known = {_place(one): one for one in before.keys}
    for key in after.keys:
        old = known.get(_place(key))
        if old is not None and old.id != key.id:
            reasons.append(f"another key stands in {key.owner.key}, for {key.owner.identity}")
        elif old is not None and old.revoked and not key.revoked:
            reasons.append(f"{key.owner.key} is revoked, and would not be any more")
    return reasons


def _place(key: Key) -> tuple[str, str]:
    return key.owner.identity.lower(), key.owner.key


def _key(owner: Developer, text: str) -> Key:
    if text.lstrip().startswith("-----BEGIN PGP"):
        return Key(owner, text, openpgp.fingerprint(text), openpgp.revoked(text))
    return Key(owner, text, ssh.key(text))
