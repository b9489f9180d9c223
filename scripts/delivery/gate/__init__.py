"""May this digest enter that environment? The facts gathered once, and the pure decision."""
