"""The WSGI application: every URL of the portal over one context."""

from typing import Any

from mosis import problems
from mosis.config import ConfigError
from mosis.context import Context


def build(env: Context) -> Any:
    """The WSGI application over an environment: every URL of the portal."""
    from mosis.web import (
        account_recovery,
        accounts,
        admin,
        apps,
        auth,
        backups,
        cli,
        docs,
        events,
        health,
        jobs,
        keys,
        metrics,
        notifications,
        oauth,
        review_messages,
        reviews,
        store,
        telemetry,
        versions,
        webhooks,
        well_known,
    )
    from mosis.web import device_login as devices
    from mosis.web.idempotency import Retries
    from mosis.web.plugins import Answers, Callers, Errors, Portal

    prefix = env.config.base_path if env else ""
    app = Portal(env.measures if env else None, prefix)
    if env:
        problems.document_errors_under(prefix)
    for plugin in (Errors(), Callers(env), Retries(env), Answers(env)):
        app.install(plugin)
    for face in (
        health,
        metrics,
        docs,
        cli,
        auth,
        oauth,
        account_recovery,
        devices,
        accounts,
        keys,
        apps,
        versions,
        reviews,
        review_messages,
        notifications,
        events,
        webhooks,
        admin,
        store,
        telemetry,
        jobs,
        backups,
        well_known,
    ):
        face.routes(app)
    first = prefix.split("/")[1] if prefix else None
    if first in {"v1", *(route.rule.split("/")[1] for route in app.routes)}:
        raise ConfigError(
            [f"BASE_URL: its path must not begin with /{first}, as addresses of the portal do."]
        )
    return app
