"""Mean-field models, numpy only: they know no mesh, no time step, no rank. `mvpde.cases.kinds` says how case files name them."""
