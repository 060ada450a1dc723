"""Which policy answers which choice of a request."""
