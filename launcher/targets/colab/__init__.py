"""The door `colab`: a Colab runtime, driven through its own Jupyter server."""
