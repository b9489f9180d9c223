"""Security: what a burglar could do in the database with what the service has."""

import json
from typing import Any

import pytest

from e2e.suites.target import Target, name

DENIED = "42501"  # PostgreSQL's code of insufficient privilege
# Runs inside the app's container, with its login; nothing of it is kept.
ASK = """
import json, sys
import psycopg
from manual_app import connect, settings

def tried(statement):
    try:
        with connection.transaction(force_rollback=True):
            return [list(row) for row in rows] if (rows := connection.execute(statement)).description else "done"
    except psycopg.Error as error:
        return error.sqlstate

with connect.connect(settings.read_database()) as connection:
    print(json.dumps({statement: tried(statement) for statement in json.loads(sys.argv[1])}))
"""
FORBIDDEN = (
    "CREATE TABLE burglar (id int)",
    "CREATE TEMPORARY TABLE burglar (id int)",
    "CREATE SCHEMA burglar",
    "CREATE ROLE burglar",
    "ALTER TABLE orders ADD burglar int",
    "DROP TABLE orders",
    "DELETE FROM orders",
    "UPDATE orders SET total = 0",
    "UPDATE alembic_version SET version_num = '9999'",
    "SELECT * FROM pg_authid",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY orders TO PROGRAM 'true'",
    "SET ROLE manual_app_owner",
    "SET ROLE postgres",
)
MAY_MORE = "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
OWNS = "SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = current_user"


@pytest.fixture(scope="module")
def said(target: Target) -> dict[str, Any]:
    """What the database says to the service's role, by statement."""
    pod = name(target.app_pods()[0])
    statements = json.dumps([*FORBIDDEN, MAY_MORE, OWNS])
    return dict(target.python(pod, target.pipeline.chart.release, ASK, statements))


def test_role_is_nobody(said: dict[str, Any]) -> None:
    """The service's role is no superuser, makes no roles and no databases, and owns nothing."""
    assert said[MAY_MORE] == [[False]]
    assert said[OWNS] == [[0]]


def test_role_is_refused(said: dict[str, Any]) -> None:
    """It makes no table, changes and deletes no order, reads no password and no file, and becomes nobody else."""
    allowed = {statement: said[statement] for statement in FORBIDDEN if said[statement] != DENIED}
    assert allowed == {}
