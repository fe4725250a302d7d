"""A finished run as DICOM objects: its transform, and its warped image."""
