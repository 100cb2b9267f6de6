"""Free tiers end to end: Kaggle and Colab beside the other doors."""
