"""hipcomm-bench fused: the all-reduce, the residual and the norm behind it, over rows.

``rows.py`` has the buffers, inputs and checks, ``expected.py`` the numbers, ``ours.py`` hipcomm's ways to do
it, ``others.py`` other libraries', and ``contestants.py`` the list of all.
"""
