"""The families of models that can be converted, a folder for each."""
