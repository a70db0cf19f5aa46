"""Students, their likelihood and their generation."""
