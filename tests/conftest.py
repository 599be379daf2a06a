"""For all tests: how long an example takes fails none, since the machine may be busy."""

from hypothesis import settings

settings.register_profile("byrote", deadline=None)
settings.load_profile("byrote")
