"""What is done to an image before a network sees it: body mask, axial slices, intensity scale."""
