"""Passwords, tokens, and sign-in at a provider."""
