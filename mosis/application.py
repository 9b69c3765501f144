"""The WSGI application: every URL of the portal, calls of the API and pages, over one context."""

from typing import Any

from mosis.context import Context


def build(env: Context) -> Any:
    """The WSGI application over an environment: every URL of the portal."""
    from mosis.ui import account_links, assets, console, device, setup, sign_in
    from mosis.ui import store as store_front
    from mosis.ui.pages import Pages
    from mosis.web import (
        account_recovery,
        accounts,
        admin,
        apps,
        auth,
        backups,
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

    pages = Pages(env)
    app = Portal(env.measures if env else None, pages.error_page)
    for plugin in (Errors(), Callers(env), Retries(env), Answers(env), pages):
        app.install(plugin)
    for face in (
        health,
        metrics,
        docs,
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
        # pages
        assets,
        store_front,
        setup,
        sign_in,
        account_links,
        device,
        console,
    ):
        face.routes(app)
    return app
