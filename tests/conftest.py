"""Property tests have no deadline: time is measured in benchmarks, and machines are loaded."""

from hypothesis import settings

settings.register_profile("slimpajama", deadline=None)
settings.load_profile("slimpajama")
