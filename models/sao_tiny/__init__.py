"""sao-tiny: the sounds it is taught, its training, and how it is measured. Not part of the installed package."""
