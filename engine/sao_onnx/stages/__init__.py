"""The networks: arrays in, arrays out, over sessions."""
