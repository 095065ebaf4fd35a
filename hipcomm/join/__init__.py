"""How a process becomes a rank of a job, or several of its threads do, and how it leaves."""
