"""The platform's parts for a machine that reaches no container registry: built from package registries."""
