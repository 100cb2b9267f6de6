"""The door `kaggle`: a private notebook that runs the identical job on Kaggle's free GPUs."""
