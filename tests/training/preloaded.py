"""What the server of fresh processes imports: torch's compiler too, a second of each start.

Python's server takes names of modules only, so the call stands here.
"""

from georecon.training.optimizer import preload
from tests.training import toy_world  # noqa: F401 - all that a child needs

preload()
