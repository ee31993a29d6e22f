"""What every economy shares: declarations, the pairing of a definition with its twin, counter-based draws."""
