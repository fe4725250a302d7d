"""One registration, from two volumes to a run folder, and what a finished run can do."""
