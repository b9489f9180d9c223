"""Build an image once, carry that digest through the environments, and prove what runs."""
