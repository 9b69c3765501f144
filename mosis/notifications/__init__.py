"""The event feed of an account, and its delivery by mail, webhooks and WebSockets."""
