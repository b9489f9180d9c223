"""SSH keys that sign commits (gpg.format=ssh), verified as git itself does it: by `ssh-keygen -Y verify`."""

import base64
import binascii
import subprocess
import tempfile
from pathlib import Path

from delivery.errors import PlatformError
from delivery.parts.openpgp import NoKey

ARMOR = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_SECONDS = 20


def key(public: str) -> str:
    """The kind and the base64 text of the one public key in a text, without its comment; NoKey for any other text."""
    lines = [line for line in public.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise NoKey(f"it has {len(lines)} lines, and is to have one public key")
    kind, _, rest = lines[0].partition(" ")
    text = rest.strip().partition(" ")[0]
    try:
        blob = base64.b64decode(text, validate=True)
    except binascii.Error:
        blob = b""
    # What SSH writes first is the length of the kind, and the kind (RFC 4253, section 6.6).
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()) or "-cert-" in kind:
        raise NoKey("it is no SSH public key")
    return f"{kind} {text}"


def claims(public: str, signature: str) -> bool:
    """Whether a signature says that this key made it. Anybody can write that: see `verified`."""
    body = signature.partition(ARMOR)[2].partition(_END)[0]
    try:
        return base64.b64decode(key(public).split()[1]) in base64.b64decode(body)
    except binascii.Error:
        return False


def verified(public: str, data: bytes, signature: str) -> bool:
    """Whether this key made the signature of these bytes for git; PlatformError when ssh-keygen is not installed."""
    with tempfile.TemporaryDirectory(prefix="delivery-ssh-") as folder:
        allowed, signed = Path(folder) / "allowed", Path(folder) / "signature"
        allowed.write_text(f'developer namespaces="git" {key(public)}\n', encoding="ascii")
        signed.write_text(signature, encoding="utf-8")
        command = ["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", "developer", "-n", "git"]
        try:
            done = subprocess.run(
                [*command, "-s", str(signed)],
                input=data,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise PlatformError(
                "ssh-keygen is not installed, and a commit is signed by an SSH key",
                "install it (Debian: apt-get install openssh-client)",
            ) from None
        except subprocess.TimeoutExpired:
            raise PlatformError(
                f"ssh-keygen did not finish within {_SECONDS} s", "run it by hand to see more"
            ) from None
    return done.returncode == 0
