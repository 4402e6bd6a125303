"""What the solutions share and only Prefect needs: the pipelines run without this folder."""
