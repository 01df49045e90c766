"""What a job writes of itself (record, code digest), and the chain of a number."""
