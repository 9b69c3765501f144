"""The WSGI application: every URL of the portal over one context."""

from typing import Any

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
    )
    from mosis.web import device_login as devices
    from mosis.web.idempotency import Retries
    from mosis.web.plugins import Answers, Callers, Errors, Portal

    app = Portal(env.measures if env else None)
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
    ):
        face.routes(app)
    return app
