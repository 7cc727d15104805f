"""What it costs: a folder for each question; rows are JSON lines in results/, figures and tables are made from rows only.

Imports: nothing of this project.
Begin with: `operator/` for one call, `pipeline/` for whole runs, `report/` for the pages; `measuring/` is what they share.
"""
