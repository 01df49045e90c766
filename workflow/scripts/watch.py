"""A live table of all running trainings, until it is interrupted."""

from pathlib import Path

from georecon.jobs.watch import watch

watch(Path("results"), once=False)
