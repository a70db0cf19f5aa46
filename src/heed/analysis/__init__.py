"""From recorded scores to tables, figures and a page."""
