"""Programs that stand on a rented machine: its entry point, and what a virtual machine has and a container lacks."""
