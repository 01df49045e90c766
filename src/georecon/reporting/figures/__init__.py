"""Figures: what each is drawn from, style, drawing."""
