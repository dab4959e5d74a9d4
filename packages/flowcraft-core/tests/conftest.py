"""Settings for all tests of this package."""

import os

from hypothesis import HealthCheck, settings

# No deadline: a busy machine is not a bug. `ci` always draws the same examples, so that a red build is red again;
# `dev` explores.
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
