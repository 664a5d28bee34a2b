"""Everything about n: particles, runs of SGD, characteristics, and exact laws at finite n."""
