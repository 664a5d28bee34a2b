"""Many runs: a case varied, one process for each point, and the law that is measured on them."""
