"""What runs inside the sandbox, as `python -I -S`: these modules import only the standard library and each other."""
