"""The CI systems' own files, run by their own runners against the cluster of the journeys: `make e2e-ci`."""
