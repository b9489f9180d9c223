"""Flux, as the bench compares with it: its two controllers from their own Go modules, in a namespace of their own.

go.mod and go.sum beside this file pin their source. It is a module of its own, so that nobody who does not bench
compiles it, with the platform's versions of what both use, so that what the platform compiled is not compiled again.
"""
