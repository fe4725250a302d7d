"""The two networks, their weights files, and the device they run on."""
