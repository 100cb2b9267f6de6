"""HTTP as Colab needs it: bounded answers, bounded waiting, one clear line for whatever goes wrong."""
