"""What a training keeps, measures and shares between processes."""
