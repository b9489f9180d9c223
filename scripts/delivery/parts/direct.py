"""This machine's proxy, if it has one: what must not go through it, and what a container needs to go through it."""

import os
from ipaddress import IPv4Address
from socket import INADDR_LOOPBACK
from urllib.parse import urlsplit

LOOPBACK = str(IPv4Address(INADDR_LOOPBACK))
_HERE = ("localhost", LOOPBACK, "::1")


def environment() -> dict[str, str]:
    """NO_PROXY in both spellings: the host's, and this machine. For a program that asks the machine itself."""
    local = ",".join(filter(None, [os.environ.get("NO_PROXY", ""), "localhost", LOOPBACK]))
    return {"NO_PROXY": local, "no_proxy": local}


def proxies() -> dict[str, str]:
    """The host's proxy in both spellings, for a container that goes out; none that only this machine reaches."""
    told = {
        name: os.environ.get(name) or os.environ.get(name.upper(), "")
        for name in ("http_proxy", "https_proxy")
    }
    reached = {name: value for name, value in told.items() if value and not _is_here(value)}
    if not reached:
        return {}
    if never := os.environ.get("no_proxy") or os.environ.get("NO_PROXY"):
        reached["no_proxy"] = never
    return reached | {name.upper(): value for name, value in reached.items()}


def _is_here(proxy: str) -> bool:
    return urlsplit(proxy if "//" in proxy else f"//{proxy}").hostname in _HERE
