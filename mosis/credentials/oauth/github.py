"""GitHub, GitHub Enterprise, Gitea and Forgejo: OAuth 2.0, and an API that returns the user.

https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps,
https://docs.github.com/en/rest/users/emails, https://docs.gitea.com/development/oauth2-provider.
"""

from typing import Any
from urllib.parse import urlsplit

from mosis.clock import Clock
from mosis.credentials.oauth.provider import (
    AuthorizationResponse,
    AuthorizationState,
    Profile,
    Provider,
    extended,
    profile_of,
)


class GitHub(Provider):
    """`url` is where users sign in and the issuer of subjects; `api` has /user and /user/emails."""

    def __init__(
        self, name: str, url: str, api: str, client_id: str, client_secret: str, clock: Clock
    ) -> None:
        super().__init__(name, url, client_id, client_secret, clock)
        self.api = api
        # GitHub's scope for addresses is unknown to Gitea, which grants every scope if it gets an
        # unknown one.
        self._scope = "read:user" if api.endswith("/api/v1") else "read:user user:email"

    def address(self, redirect_uri: str, tied: AuthorizationState) -> str:
        return extended(
            self.issuer + "/login/oauth/authorize",
            {
                "response_type": "code",
                "client_id": self.client_id,
                "redirect_uri": redirect_uri,
                "state": tied.state,
                "scope": self._scope,
                "code_challenge": tied.challenge,
                "code_challenge_method": "S256",
            },
        )

    def profile(
        self, redirect_uri: str, tied: AuthorizationState, answer: AuthorizationResponse
    ) -> Profile:
        # RFC 9207. github.com sends https://github.com/login/oauth, older servers nothing, and the
        # documents do not list the values: so the origin is compared. Each provider also has a
        # redirect address of its own (RFC 9700, 4.4.2.2).
        if answer.iss is not None and _origin(answer.iss) != _origin(self.issuer):
            raise self.untrusted("iss names another origin")
        if answer.error is not None or answer.code is None:
            raise self.refused(answer.error)
        tokens = self.exchange(
            self.issuer + "/login/oauth/access_token",
            {
                "code": answer.code,
                "redirect_uri": redirect_uri,
                "code_verifier": tied.verifier,
                "client_id": self.client_id,
                "client_secret": self.client_secret,
            },
            {},
        )
        user = self._read("/user", tokens["access_token"], dict)
        if type(user.get("id")) is not int:
            raise self.untrusted("/user has no id")
        email, verified = _best(
            self._read("/user/emails?per_page=100", tokens["access_token"], list)
        )
        return profile_of(
            self.issuer, str(user["id"]), email, verified, user.get("name"), user.get("login")
        )

    def _read(self, path: str, token: str, kind: type) -> Any:
        reply = self.ask(self.api + path, headers={"Authorization": f"Bearer {token}"})
        if reply.status != 200 or not isinstance(reply.document, kind):
            raise self.untrusted(f"{path} answers {reply.status}")
        return reply.document


def _best(emails: list[Any]) -> tuple[Any, bool]:
    """The address to use, and whether it is verified: verified ones first, then the primary."""
    known = [each for each in emails if isinstance(each, dict)]
    known.sort(
        key=lambda each: (each.get("verified") is True, each.get("primary") is True), reverse=True
    )
    return (known[0].get("email"), known[0].get("verified") is True) if known else (None, False)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
