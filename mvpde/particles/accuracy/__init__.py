"""What measures made of points know of their own errors: of the step, of the number of runs, of the number of nodes."""
