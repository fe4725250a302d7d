"""Many pairs: found in a folder, registered, gathered; disk is the state."""
