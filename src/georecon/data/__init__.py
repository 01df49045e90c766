"""From raw file to split: cards say what a dataset is, readers parse, checks refuse, stores hold."""
