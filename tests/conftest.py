"""For all tests: property tests have no deadline, for a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")
