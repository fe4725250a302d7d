"""How good a registration is: metrics, overlap of labels, statistics, verdict."""
