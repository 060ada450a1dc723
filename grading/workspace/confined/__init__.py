"""What runs inside the walls, as `python -I -S`: these modules import the standard library and `sandbox.confined`."""
