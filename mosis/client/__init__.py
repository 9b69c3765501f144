"""`mosis`: the command line for app developers, reviewers and device authors.

main.py      arguments, exit codes     config.py    files in ~/.config/mosis    api.py       HTTP
output.py    text, JSON, progress      signing.py   signing keys                project.py   build a package
check.py     the portal's checks       publish.py   upload and release          install.py   as a device
account.py   sign-in, keys, tokens     review.py    the review queue            status.py    versions, crashes, events
templates.py what `init` writes        completion.py

It runs with the standard library alone: from an installed package, a checkout, or a single file that
the portal serves (mosis/web/cli.py).
"""
