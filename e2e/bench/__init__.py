"""`make bench`: how fast the pipeline is on the machine at hand, as ratios measured in one run on a live cluster."""
