"""The GraphQL interface: reads shaped as Prefect's client expects them, and mutations."""
