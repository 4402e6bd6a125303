"""Code that the Prefect solutions share. The plain pipelines do not use this folder."""
