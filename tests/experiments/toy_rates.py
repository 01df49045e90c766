"""A rate as the trial measures it, with made-up numbers."""

from __future__ import annotations

from georecon.experiments.rates import Rate

RATE = Rate(
    seconds_per_step=0.5,
    step_error=0.01,
    step_spread=0.03,
    seconds_per_molecule=0.002,
    molecule_error=0.0001,
    startup_seconds=12.0,
    host_bytes=2e9,
    device_bytes=4e9,
    held_bytes=1000.0,
    output_bytes=1e6,
    predicted_bytes=500.0,
    state_bytes=5e6,
)
