"""The local platform: kind, a registry, a Git server and Argo CD on this machine. A team with a cluster deletes it."""
