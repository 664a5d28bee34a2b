"""Deep networks as points: characteristics of their limit, and true networks of finite width."""
