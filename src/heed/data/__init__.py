"""From a teacher's responses to packed batches whose supervised tokens are proved."""
