"""Machines that run these tests are shared: an example that took long says nothing about the code."""

from hypothesis import settings

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
