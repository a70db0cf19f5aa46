"""What every part shares: components, checks, errors, types, statistics, identity, files."""
