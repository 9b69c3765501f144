"""The client side of sign-in at a provider: OAuth 2.0 (RFC 6749, with the advice of RFC 9700) and OpenID
Connect Core 1.0.

    provider.py  what all providers share: PKCE, `iss`, the exchange of the code, errors
    openid.py    OpenID Connect: discovery, keys, the ID token
    trusted.py   ID tokens of build servers, for trusted publishers
    github.py    OAuth 2.0 without ID tokens: GitHub, GitHub Enterprise, Gitea, Forgejo

These modules do not know accounts or the database.
"""

from mosis.clock import Clock
from mosis.config import Config
from mosis.credentials.oauth.github import GitHub
from mosis.credentials.oauth.openid import OpenID
from mosis.credentials.oauth.provider import (
    AuthorizationResponse,
    AuthorizationState,
    Profile,
    Provider,
    ties,
)
from mosis.credentials.oauth.trusted import TrustedIssuers

__all__ = [
    "AuthorizationResponse", "AuthorizationState", "Profile", "Provider", "TrustedIssuers",
    "providers", "ties",
]  # fmt: skip
GOOGLE = "https://accounts.google.com"  # https://developers.google.com/identity/openid-connect/openid-connect


def providers(config: Config, clock: Clock) -> dict[str, Provider]:
    """The providers that the settings switch on, by the name they have in addresses."""
    found: list[Provider] = []
    if config.github_client_id and config.github_client_secret:
        found.append(
            GitHub(
                "github",
                config.github_url,
                config.github_api,
                config.github_client_id,
                config.github_client_secret,
                clock,
            )
        )
    if config.google_client_id and config.google_client_secret:
        found.append(
            OpenID("google", GOOGLE, config.google_client_id, config.google_client_secret, clock)
        )
    if config.oidc_issuer and config.oidc_client_id and config.oidc_client_secret:
        found.append(
            OpenID(
                config.oidc_name,
                config.oidc_issuer,
                config.oidc_client_id,
                config.oidc_client_secret,
                clock,
            )
        )
    return {provider.name: provider for provider in found}
