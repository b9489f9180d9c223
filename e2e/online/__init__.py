"""`make e2e-online`: a laptop with Docker and the internet, on a machine that reaches no container registry.

The public names are served by a registry of the test, under an authority of the test, to a machine of its own: Debian
trixie with its Docker, an ordinary user whose home has a space in its name, 19 GB of disk, no Go, no kind.
"""
