"""The portal as people use it: a real Chromium, without a window, against a portal that runs."""
