"""hipcomm-run: starts the ranks of a job on one machine and watches over them.

``cli.py`` reads the command line, ``spec.py`` says what is to be started, ``job.py`` supervises,
``worker.py`` is one rank's process, ``output.py`` passes its lines on, ``summary.py`` says how it
ended, and ``guardian.py`` is the small process that ends the ranks should the launcher be killed.
``doctor/`` is another command, hipcomm-doctor.
"""
