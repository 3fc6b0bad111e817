"""Many pictures on one machine: where rows come from, what is done with each, and the records that are kept."""
