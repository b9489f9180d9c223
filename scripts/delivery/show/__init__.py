"""Everything that a person or a program reads: tables, JSON with a stable schema, the page."""
