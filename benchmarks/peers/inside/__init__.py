"""What runs in the environments of others, or beside them."""
