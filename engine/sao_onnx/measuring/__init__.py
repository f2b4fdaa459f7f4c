"""How fast this machine is, how fast it could be, and what holds it back."""
