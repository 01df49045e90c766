"""What a job writes of itself (record, source digest), and the chain of a number."""
