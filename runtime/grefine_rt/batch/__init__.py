"""Many pictures on one machine: the sources of rows, the work on each, and the records that are kept."""
