"""What a machine needs before a job can run on it, checked one by one."""
