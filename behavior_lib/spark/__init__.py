"""The only place, beside the jobs, that imports pyspark."""
