"""8-bit products on x86 processors other than the one at hand."""
