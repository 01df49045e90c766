"""Results to tables, figures, web pages and summary."""
