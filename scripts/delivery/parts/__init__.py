"""One module for each outside thing. Nothing here knows about the delivery pipeline's rules."""
