"""One fit for pre-training and tuning alike."""
