"""hipcomm-doctor: says whether hipcomm can run on this machine, and what to change where it cannot.

``cli.py`` prints and sets the exit code, ``findings.py`` is what an examination finds, ``settings.py`` looks
at the environment, ``machine.py`` at the system and ``topology.py`` at what links devices. ``probe.py`` talks
to the HIP library, in a process of its own: a driver that is out of order may crash or hang. ``trial.py`` is
the program of a real job over all devices.
"""
