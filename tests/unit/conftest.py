"""What holds for every unit test."""

from hypothesis import settings

settings.register_profile("buckler", deadline=None)  # how long one example takes says how busy the machine is
settings.load_profile("buckler")
