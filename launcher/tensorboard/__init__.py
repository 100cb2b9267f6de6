"""TensorBoard for runs: their event files in one scratch folder, and the process that shows it."""
