"""`delivery report --serve`: what is served is the report, read again and again."""

from datetime import UTC, datetime
from typing import Any

from delivery.context import Context
from delivery.errors import DeliveryError
from delivery.show import report, serve
from delivery.verbs import report as verb


def run(context: Context, port: int) -> None:
    """Serve the report until Ctrl-C, and say where."""
    first = report.unread_document(context, "nobody has looked yet", datetime.now(UTC))
    serve.run(lambda: look(context), first, port, _say)


def look(context: Context) -> dict[str, Any]:
    """The report as of now; where it cannot be made, one that says UNKNOWN and why."""
    try:
        return report.report_document(context.site, verb.report(context))
    except DeliveryError as error:
        return report.unread_document(context, error.message, datetime.now(UTC))
    except Exception as error:  # a bug ends one look, and not the watch
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300] or 'no reason given'}"
        return report.unread_document(context, reason, datetime.now(UTC))


def _say(url: str) -> None:
    print(f"the page: {url} (until Ctrl-C)", flush=True)
