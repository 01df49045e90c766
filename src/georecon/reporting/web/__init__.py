"""The web report: static pages of an edition's tables, figures and the way of every number."""
