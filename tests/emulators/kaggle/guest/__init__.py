"""What runs inside an emulated session; each file is copied there and stands alone."""
