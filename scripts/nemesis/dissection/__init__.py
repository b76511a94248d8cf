"""Network Dissection: activations, thresholds, masks, tallies and labels."""
