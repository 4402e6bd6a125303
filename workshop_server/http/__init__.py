"""The API over HTTP, and what protects the API and the pages."""
