"""The image, built and pushed once, with what it is made of and how."""
