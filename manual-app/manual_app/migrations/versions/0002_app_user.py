"""What the service may do, which owns nothing: read and place orders, and see the schema's revision."""

from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Give the service's role these rights and no other."""
    user = context.config.attributes["app_user"]
    role = postgresql.dialect().identifier_preparer.quote_identifier(user)
    op.execute(f"REVOKE ALL ON orders, alembic_version FROM {role}")
    op.execute(f"GRANT SELECT, INSERT ON orders TO {role}")
    op.execute(f"GRANT SELECT ON alembic_version TO {role}")
