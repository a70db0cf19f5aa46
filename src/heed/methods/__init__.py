"""What may move in a student, and how its frozen weights are stored."""
