"""An emulated Kaggle on loopback that runs what is pushed to it; the official client takes it for the real one."""
