"""The local platform: the host's Docker, the images, the kind cluster and what runs beside it."""
