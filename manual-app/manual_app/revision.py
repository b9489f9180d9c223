"""Which state of the schema this build needs, and whether the one that was found will do.

Revisions are four digits that count up. A build serves on its own revision and on later ones: the
migration runs while pods of the build before still serve, and a rollback puts an older build on a
newer schema. So a migration may add, but must leave what the build before it reads and writes.
"""

import re

HEAD = "0002"
"""The newest revision in migrations/versions (a test holds the two together)."""


def is_current(found: str | None) -> bool:
    """Say whether a schema at revision `found` (None: never migrated) has all that this build needs."""
    return found is not None and re.fullmatch(r"[0-9]{4}", found) is not None and found >= HEAD


def describe(found: str | None) -> str:
    """Say what is wrong with `found`, in words for the person who reads /readyz."""
    return f"migrations are not current: schema is at {found or 'nothing'}, this build needs {HEAD}"
