"""What surrounds a job: launch, warm, GPUs, Slurm, doctor, watch, progress."""
