"""Signed statements about a digest: test evidence, approvals, and the keys behind them."""
