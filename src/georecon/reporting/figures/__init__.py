"""Figures: what each is drawn from, and what the notebooks that draw them share."""
