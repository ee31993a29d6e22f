"""What every economy of agents shares: declarations of sights and choices, batches of replicas, hand-written behaviour."""
