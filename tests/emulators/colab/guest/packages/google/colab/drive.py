"""Google Drive: needs the browser too."""


def mount(mountpoint, force_remount=False):
    """Here always an error: the consent is given in the Colab page."""
    raise ValueError(f"mount of {mountpoint} failed: no browser to ask for consent")
