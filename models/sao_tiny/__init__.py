"""sao-tiny: the sounds it is taught, its training, and what it is judged by. Not part of the installed package."""
