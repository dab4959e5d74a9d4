"""What a type checker accepts of policies, and what it must refuse; checked by `hatch run types`, never executed.

A line that must not check carries the ignore comments of both checkers. If it starts to check, an unused ignore is
an error.
"""

from flowcraft.blueprint import Retry

patient = Retry(attempts=5, delay=0.5, max_delay=60)
late: float = patient.delay_after(1, 0.5)

Retry(attempts="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
patient.attempts = 6  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
