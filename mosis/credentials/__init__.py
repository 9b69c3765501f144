"""Passwords, access tokens, and sign-in at a provider."""
