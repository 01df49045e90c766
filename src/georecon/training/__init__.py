"""The one training loop, its checkpoints, and the processes that share it."""
