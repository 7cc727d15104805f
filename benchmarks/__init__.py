"""What it costs: one module per question; rows are JSON lines, figures and tables are made from rows only."""
