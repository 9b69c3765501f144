"""The feed of events of an account, and how it is delivered: webhooks and WebSockets."""
