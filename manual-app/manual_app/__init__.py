"""manual-app: takes orders, prices them in the customer's currency and keeps them in PostgreSQL."""
