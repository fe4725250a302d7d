"""Reading and writing: volumes, DICOM series, point files, run folders."""
