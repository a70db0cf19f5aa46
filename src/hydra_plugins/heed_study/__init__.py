"""heed's plug-ins for Hydra."""
