"""`python -m manual_app` serves until SIGTERM, finishes what is in flight and exits 0."""

import os
import signal
import sys
from types import FrameType

from manual_app import settings


def main() -> int:
    """Serve. Returns the exit code: 0 stopped as asked, 2 wrong settings, 3 could not listen."""
    # As PID 1 we would not notice a SIGTERM that comes before uvicorn listens for it.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        configured = settings.read()
    except settings.SettingsError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2
    import structlog

    from manual_app import app, logs, server
    from manual_app.metrics import Metrics

    logs.configure()
    log = structlog.get_logger()
    log.info("starting", build=configured.build.build, revision=configured.build.revision)
    metrics = Metrics(configured.build)
    try:
        metrics.serve(configured.ops_port)
    except OSError:
        log.error("not started", port=configured.ops_port, hint="is the port taken?")
        return 3
    try:
        server.server(app.create(configured, metrics), configured.port).run()
    except SystemExit as end:  # uvicorn raises the signal again once it has stopped
        if end.code:
            log.error("not started", port=configured.port, hint="is the port taken?")
            return 3
    log.info("stopped")
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a thread that waits for a frozen database must not hold the process
