"""What holds for every test."""

from hypothesis import settings

# No deadline: a busy machine is slow. No database: the checkout may not be ours to write to.
settings.register_profile("everywhere", deadline=None, database=None)
settings.load_profile("everywhere")
