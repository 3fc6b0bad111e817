"""From an assessment to a plan of the refining, its costs and its reasons."""
