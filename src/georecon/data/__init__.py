"""From raw file to split: dataset cards, readers, plausibility checks, stores."""
