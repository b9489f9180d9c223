"""What Git asks of an environment: its values, the chart rendered with them, the commit that changes them."""
