"""One suite for every environment: what it promises is asked of the service as users reach it."""
