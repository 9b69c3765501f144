"""Requests and mail to other servers."""
