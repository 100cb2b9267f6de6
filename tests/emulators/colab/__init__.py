"""An emulator of Colab on loopback: its own answers are ours, its runtimes are real Jupyter servers."""
