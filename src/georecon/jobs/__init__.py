"""What surrounds a job: launch, warm process, GPUs, Slurm, doctor, watch, progress."""
