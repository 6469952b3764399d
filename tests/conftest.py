"""For all tests."""

from hypothesis import settings

# How long an example takes says something of the machine only, and machines are busy.
settings.register_profile("quorumlog", deadline=None)
settings.load_profile("quorumlog")
