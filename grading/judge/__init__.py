"""The judge: one program against the tests of one problem, in sandboxed processes."""
