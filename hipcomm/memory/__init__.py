"""Device memory that all ranks reach: a communicator's own slabs, symmetric arrays, registered memory."""
