"""Mean-field models as functions of numpy arrays: they know no mesh, no time step, no rank.

`mvpde.cases.kinds` says how case files name them.
"""
