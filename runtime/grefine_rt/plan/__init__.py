"""From an assessment to a plan of what is refined, its costs and its reasons."""
