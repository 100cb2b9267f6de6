"""What lies in an emulated runtime; runs there, with the standard library alone."""
