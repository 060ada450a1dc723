"""What runs inside the sandbox's walls. These modules import the standard library and each other only."""
