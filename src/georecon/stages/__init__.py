"""One file per computing rule (rule = script = stage)."""
