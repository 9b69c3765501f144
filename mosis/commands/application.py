"""The WSGI application: every URL of the portal, API and pages."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from mosis import problems
from mosis.config import ConfigError
from mosis.context import Context
from mosis.operations.seen_requests import HostWatch, ProxyWatch

# The modules with a part of the URL table, each with its function `routes`.
API = (
    "health metrics docs cli admin jobs backups front_ends well_known auth oauth account_recovery"
    " second_factor device_login accounts keys apps members trusted_publishers versions"
    " rollout_plans reviews review_messages listing_changes abuse_reports notifications events"
    " webhooks store store_changes telemetry"
)
PAGES = (
    "assets store sign_in second_factor account_links device console listing_changes"
    " abuse_reports reviews apps members trusted_publishers quality account admin"
)


def build(env: Context) -> Any:
    """The WSGI application for a context."""
    from mosis.ui.pages import Pages
    from mosis.web.answers import Answers
    from mosis.web.callers import Callers
    from mosis.web.compression import Compression
    from mosis.web.idempotency import Retries
    from mosis.web.plugins import Errors, Inputs, Portal

    prefix = env.config.base_path if env else ""
    pages = Pages(env)
    measures, limits = (env.measures, env.limits) if env else (None, None)
    see_host = HostWatch(env.config).see if env else None
    see_proxy = ProxyWatch(env.config).see if env else None
    trusted = env.config.trusted_proxy if env else ()
    app = Portal(measures, prefix, pages.error_page, see_host, see_proxy, limits, trusted)
    if env:
        problems.document_errors_under(prefix)
    if env and env.config.compression:
        app.install(Compression(env))  # first, that is, around all others
    for plugin in (Errors(), Callers(env), Retries(env), Inputs(env), Answers(env), pages):
        app.install(plugin)
    for module in _modules():
        module.routes(app)
    first = prefix.split("/")[1] if prefix else None
    if first in {"v1", *(route.rule.split("/")[1] for route in app.routes)}:
        raise ConfigError(
            [f"BASE_URL: its path must not begin with /{first}, which the portal uses itself."]
        )
    return app


def build_store(env: Context) -> Any:
    """The WSGI application of a store front end."""
    from mosis.web import health, metrics, store, store_changes
    from mosis.web.answers import Answers
    from mosis.web.callers import Callers
    from mosis.web.compression import Compression
    from mosis.web.plugins import Errors, Inputs
    from mosis.web.store_only import StorePortal

    config = env.config
    app = StorePortal(
        env.measures, config.base_path, limits=env.limits, trusted_proxy=config.trusted_proxy
    )
    app.primary_url = config.primary_url or ""
    problems.document_errors_under(config.base_path)
    if config.compression:
        app.install(Compression(env))  # first, that is, around all others
    for plugin in (Errors(), Callers(env), Inputs(env), Answers(env)):
        app.install(plugin)
    for module in (health, metrics, store, store_changes):
        module.routes(app)
    return app


def _modules() -> Iterator[Any]:
    """The modules of the URL table."""
    for package, names in (("web", API), ("ui", PAGES)):
        for name in names.split():
            yield import_module(f"mosis.{package}.{name}")
