"""What really runs: read from Git, Argo CD, the pods and the registry; and the pure verdict about it."""
