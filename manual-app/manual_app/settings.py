"""What the environment says: every setting of the service, read and checked once at the start.

Neither the database's password nor the token is among them: only the path of the file that holds it.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(Exception):
    """A setting is missing or makes no sense. `hint` says what to set."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where the database is and who asks it."""

    host: str
    port: int
    name: str
    user: str
    password_file: Path


@dataclass(frozen=True, slots=True)
class Build:
    """Which build this is (baked into the image) and where it runs."""

    version: str
    build: str
    revision: str
    environment: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `python -m manual_app` needs to know."""

    build: Build
    database: DatabaseSettings
    rates_url: str
    rates_timeout: float
    orders_token_file: Path
    port: int
    ops_port: int


def read(env: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of this process, or raise SettingsError naming the variable to mend."""
    environment = _required(env, "APP_ENVIRONMENT", "dev, stage or prod")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", environment):
        raise SettingsError(
            f"APP_ENVIRONMENT is {environment!r}", "name an environment of pipeline.yaml, such as dev"
        )
    rates_url = env.get("RATES_URL", "http://rates:8080").rstrip("/")
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", rates_url):
        raise SettingsError(
            "RATES_URL is not an http(s) address", "set RATES_URL such as http://rates:8080, without a query"
        )
    return Settings(
        build=Build(
            version=env.get("APP_VERSION") or "unknown",
            build=env.get("APP_BUILD") or "unknown",
            revision=env.get("APP_REVISION") or "unknown",
            environment=environment,
        ),
        database=read_database(env),
        rates_url=rates_url,
        rates_timeout=_seconds(env, "RATES_TIMEOUT_SECONDS", 2.0),
        orders_token_file=Path(
            _required(
                env, "ORDERS_TOKEN_FILE", "the path of the file that holds the token of who reads orders"
            )
        ),
        port=_port(env, "PORT", 8080),
        ops_port=_port(env, "OPS_PORT", 9090),
    )


def read_database(env: Mapping[str, str] = os.environ) -> DatabaseSettings:
    """Return only what a connection to the database needs (the migration asks for no more)."""
    return DatabaseSettings(
        host=_required(env, "DATABASE_HOST", "the database's host name"),
        port=_port(env, "DATABASE_PORT", 5432),
        name=env.get("DATABASE_NAME") or "manual_app",
        user=env.get("DATABASE_USER") or "manual_app",
        password_file=Path(
            _required(env, "DATABASE_PASSWORD_FILE", "the path of the file that holds the password")
        ),
    )


def read_app_user(env: Mapping[str, str] = os.environ) -> str:
    """Return the role that the service asks the database as: the migration lets it read and write."""
    return env.get("DATABASE_APP_USER") or "manual_app"


def _required(env: Mapping[str, str], name: str, meaning: str) -> str:
    value = env.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is not set", f"set {name} to {meaning}")
    return value


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise SettingsError(f"{name} is {text!r}", f"set {name} to a port number, such as {default}")
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 30:
        raise SettingsError(f"{name} is {text!r}", f"set {name} to seconds between 0 and 30")
    return value
