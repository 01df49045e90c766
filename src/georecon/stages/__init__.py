"""What each computing rule does: one file a rule, of the same name as its script."""
