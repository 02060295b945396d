"""Makes the helpers of this folder importable from all tests, and hypothesis the same on every machine."""

from hypothesis import settings

settings.register_profile("project", deadline=None, derandomize=True, database=None)
settings.load_profile("project")
