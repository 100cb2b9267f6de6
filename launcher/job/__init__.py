"""What the user wrote: the spec of a job, read strictly."""
