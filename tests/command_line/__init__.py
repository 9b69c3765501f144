"""Tests of `mosis`, the command line of developers, against portals that run."""
